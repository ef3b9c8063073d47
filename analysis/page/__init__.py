"""The page: its parts, payload, templates and scripts, and the door for notebooks."""
