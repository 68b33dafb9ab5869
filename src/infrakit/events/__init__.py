"""Events: a bounded journal that survives restarts, and its live followers."""
