"""The original's interfaces, so that its command line and tools can manage groups."""
