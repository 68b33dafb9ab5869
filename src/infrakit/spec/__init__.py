"""The declaration as text: parsed with lines, validated with every problem at once, hashed and compared.

`document` turns text into groups and back, `validate` checks what a plugin is given, `hash` names a version, and `diff`
tells two declarations apart. This package is handed text, never an address: fetching is somebody else's work.
"""
