"""Execution of one run: plan, train on a cluster, record, show progress, notify trackers."""
