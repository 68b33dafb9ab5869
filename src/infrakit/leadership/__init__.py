"""Leadership observers: each tells, in its own way, whether this replica's node leads the quorum."""
