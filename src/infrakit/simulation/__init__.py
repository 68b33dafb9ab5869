"""The real controllers in a simulated world: virtual time, seeded faults, and the laws checked at every step."""
