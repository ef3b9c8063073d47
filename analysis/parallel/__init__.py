"""A search's settings and results on axes side by side."""
