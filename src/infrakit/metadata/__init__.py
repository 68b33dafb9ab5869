"""Metadata plugins: trees of facts, addressed like files. No plugin imports another."""
