"""Spec stores: the same few primitives on different grounds."""
