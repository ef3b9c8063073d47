"""Reference nets beside one's own: who dominates whom."""
