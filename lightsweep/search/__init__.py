"""A search: its space, its Optuna study, early stopping."""
