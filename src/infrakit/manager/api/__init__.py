"""The manager's interface for operators; requests that only the leader can answer are forwarded to it."""
