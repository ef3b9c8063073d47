"""Intervals, tests, power and families of comparisons: small functions over arrays."""
