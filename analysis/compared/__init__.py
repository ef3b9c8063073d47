"""Comparison of several runs: what is the same, and what changed."""
