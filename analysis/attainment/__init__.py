"""Surfaces that repeated searches attain."""
