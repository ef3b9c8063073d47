"""What cross-validation's folds say of an arm."""
