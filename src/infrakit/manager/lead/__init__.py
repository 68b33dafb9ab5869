"""Leadership: one replica, its terms, and the fencing check that permits its calls."""
