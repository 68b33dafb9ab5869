"""Instance providers, one module or package each. No provider imports another."""
