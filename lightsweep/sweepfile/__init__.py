"""What a user may write: settings of an arm, data set, grid, ablation and search; reading them."""
