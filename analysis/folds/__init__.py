"""What the folds of a cross-validation show about an arm."""
