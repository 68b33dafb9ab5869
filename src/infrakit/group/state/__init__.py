"""What a group's controller knows: one owner of every member, pending creation and back-off.

Each state machine is an enum, and each transition a method that asserts what must never happen; every change of any of
them is counted by the view's one `Revision`, so that an outdated plan is noticed. Nothing here waits, reads a clock or
acts; times are the event loop's, in seconds.
"""
