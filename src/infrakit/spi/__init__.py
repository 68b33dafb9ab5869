"""The contract: what a plugin is, in values and small Protocols.

Any object that satisfies one of these Protocols is a plugin.
It is called directly in the same process, or over a socket through `rpc`, whose client satisfies the same Protocol,
so that a controller cannot tell the two apart.
This package imports nothing of InfraKit: everything else stands on it.
"""
