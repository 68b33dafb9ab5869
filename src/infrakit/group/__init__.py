"""The group controller: observe, reduce to a view, plan, act, again and again, for one declared group."""
