"""Putting the parts together: plugins by name, and the daemon that hosts them all in one process."""
