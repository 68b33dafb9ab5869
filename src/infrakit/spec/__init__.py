"""The declaration as text: parsed with lines, validated with every problem at once, hashed and compared.

`document` converts text to groups and back, `validate` decodes the properties of plugins, `hash` computes the hash of a
version, and `diff` compares two declarations. This package receives text, never an address, and fetches nothing.
"""
