"""What is declared: kept in the store, changed by compare-and-swap, checked before it is."""
