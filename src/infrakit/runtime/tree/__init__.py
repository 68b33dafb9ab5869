"""All metadata of a daemon in one tree: where its branches come from, reading, writing, and what templates see."""
