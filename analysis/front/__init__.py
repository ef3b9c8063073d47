"""Accuracy against a cost: Pareto fronts, budgets, published points."""
