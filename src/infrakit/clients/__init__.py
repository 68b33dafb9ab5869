"""Clients of other systems. What each needs besides the core is imported when it is used."""
