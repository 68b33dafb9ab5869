"""One replica: observes leadership, stores the declaration, and runs the controllers only while it leads."""
