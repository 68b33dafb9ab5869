"""Runs the production controllers in a simulated world: virtual time, seeded faults, and checks of the laws."""
