"""Fetching documents by address, and rendering templates.

`loaders` fetches documents for every other package. `engine` compiles and renders templates, with the functions of
`functions`, in the `sandbox`, within `limits`.
"""
