"""Several runs compared: what is the same, what changed."""
