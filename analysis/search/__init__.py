"""A search: its study, its course, its confirmation and the importance of its settings."""
