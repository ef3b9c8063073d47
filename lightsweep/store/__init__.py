"""The stage store: files by content key, who may write which, and what may go."""
