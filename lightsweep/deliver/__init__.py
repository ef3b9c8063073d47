"""Products of a run: exported nets, measured costs, verified trials, and the speed benchmark."""
