"""Spec stores: the primitives of `spi.store.Store` on different backends, which know no document of the manager."""
