"""InfraKit keeps declared groups of nodes alive, by itself."""

__version__ = "0.1.0"
