"""Benchmarks of speed and memory, one file each; `python -m benchmarks` runs all and compares with the original."""
