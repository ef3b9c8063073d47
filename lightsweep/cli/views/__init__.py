"""Text output of the commands, one file per subject."""
