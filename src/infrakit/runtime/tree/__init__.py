"""The joined metadata tree of a daemon: the sources of its branches, reads, writes, and snapshots for templates."""
