"""Flavor plugins: they prepare what runs on an instance and judge its health."""
