"""From a sweep to its trials: arms, matching of costs, seeds and folds; which stages they share."""
