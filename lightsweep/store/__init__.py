"""The stage store: files by content key, claims on keys, and removal of old entries."""
