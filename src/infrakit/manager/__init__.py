"""One replica: it observes who leads, stores the declaration, and runs the controllers only while it leads."""
