"""What the commands show: a file a subject."""
