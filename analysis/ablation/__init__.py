"""Results of an ablation: judged comparisons of arms."""
