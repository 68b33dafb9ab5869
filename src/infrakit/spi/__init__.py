"""The plugin contract: values and small Protocols.

Any object that satisfies one of these Protocols is a plugin.
A plugin in the same process is called directly. A plugin in another process is called through `rpc`, whose client
satisfies the same Protocol, so a controller handles both in the same way.
This package imports no other part of InfraKit; every other part may import it.
"""
