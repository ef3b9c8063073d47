"""Nets: modules, blocks and which of them train, costs, and compression."""
