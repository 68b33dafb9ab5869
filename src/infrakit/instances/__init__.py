"""Providers of instances, one module or package each; they do not know one another."""
