"""Templates and other documents from elsewhere.

`loaders` fetches by address, for everybody; `engine` compiles and renders, with the functions of `functions`, in the
`sandbox`, under `limits`.
"""
