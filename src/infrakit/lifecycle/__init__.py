"""Clusters from outside a leadership term: their first machine, recovery without a quorum, and their end."""
