"""One replica: it observes who leads, keeps the declaration, and runs the controllers only while leading."""
