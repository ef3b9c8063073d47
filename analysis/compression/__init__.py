"""Nets built small against nets made small, at equal bytes."""
