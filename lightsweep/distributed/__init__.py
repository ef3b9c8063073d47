"""Trials on a Ray cluster, and all that knows Ray."""
