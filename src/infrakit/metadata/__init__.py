"""Metadata plugins: trees of facts, addressed like files. None knows another."""
