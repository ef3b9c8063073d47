"""Where a run's time went: training, waiting, failures, and what look-ups saved."""
