"""Clients of other systems. Each imports its optional dependencies on first use."""
