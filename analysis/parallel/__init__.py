"""A search's settings and results on parallel axes."""
