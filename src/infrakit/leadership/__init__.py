"""Leadership sources: each observes in its own way whether this replica's node leads the quorum."""
