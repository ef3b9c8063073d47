"""Measured costs of nets, from costs.json."""
