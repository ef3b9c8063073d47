"""The whole job of one run: its folder and journal, its trials on a cluster, progress, trackers."""
