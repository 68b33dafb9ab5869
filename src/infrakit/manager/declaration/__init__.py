"""The declaration: validated, changed by compare-and-swap, and stored with its history."""
