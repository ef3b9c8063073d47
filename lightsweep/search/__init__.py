"""A search: its space, its Optuna study and its early stopping."""
