"""What nets cost on a machine, from costs.json."""
