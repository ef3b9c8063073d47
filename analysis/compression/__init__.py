"""Compressed nets against nets built small, at equal bytes."""
