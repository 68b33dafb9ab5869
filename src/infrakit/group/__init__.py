"""The group controller: a loop that observes one declared group, updates its view, plans, and acts."""
