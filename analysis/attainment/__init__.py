"""Attainment surfaces of repeated searches."""
