"""TensorBoard and MLflow show what the records hold."""
