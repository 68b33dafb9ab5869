"""InfraKit keeps declared groups of nodes alive, by itself."""

__version__ = "0.1.0"
HOMEPAGE = "https://pyinfrakit.readthedocs.io"  # the documentation
SOURCE = "https://github.com/pyinfrakit/pyinfrakit"
