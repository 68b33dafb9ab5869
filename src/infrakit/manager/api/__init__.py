"""What an operator asks: the manager's interface, forwarded to the leader where only that can answer."""
