"""Templates and other documents from elsewhere.

`loaders` fetches by address, for all parts; `engine` compiles and renders, with the functions of `functions`, in the
`sandbox`, under `limits`.
"""
