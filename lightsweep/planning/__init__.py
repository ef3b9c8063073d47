"""Planning of a sweep's trials: arms, matched costs, seeds and folds, and shared stages."""
