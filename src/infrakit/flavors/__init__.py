"""Flavor plugins: what runs on an instance, and how to tell that it is well."""
