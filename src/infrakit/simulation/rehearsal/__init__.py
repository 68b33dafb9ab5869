"""Rehearsals: the production replica runs an operator's own declaration against injected faults, in virtual time.

Every provider is replaced by a simulator, and every flavor by one that reports the true health of its instances. The
sizes, logical IDs, volumes, quorums and policies are those of the declaration. Each exercise has a world of its own.

groups     the declared groups, as they are rehearsed
providers  the simulated plugins
exercises  which faults are injected, and the choice of those that apply
world      runs one exercise
lives      what really happened to each instance, recorded by the simulators
promises   compares that with the declaration: which promise was broken, and why
outcome    the values that are returned

Promises are judged from what really happened, never by asking the code under test.
"""
