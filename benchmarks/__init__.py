"""Figures of speed and memory, one file each; `python -m benchmarks` prints all, with the ratio to the original's."""
