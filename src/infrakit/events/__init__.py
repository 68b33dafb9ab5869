"""Events: a bounded, persistent journal, and its live followers."""
