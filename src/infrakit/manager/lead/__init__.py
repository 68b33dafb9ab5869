"""Leading: one replica, its term, and what proves that it may act."""
