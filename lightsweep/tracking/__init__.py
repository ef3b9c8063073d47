"""Trackers that show the records in TensorBoard and MLflow."""
