"""The arithmetic of a quorum: a consensus of voters needs more than half of them."""


def majority(voters: int) -> int:
    """Return how many of the voters must be available."""
    return voters // 2 + 1


def can_lose(voters: int) -> int:
    """Return how many voters may be unavailable at once: 0 of one or two, 1 of three or four, 2 of five."""
    return max(0, (voters - 1) // 2)
