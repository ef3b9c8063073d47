"""What an ablation says: judged comparisons of arms."""
