"""What a net is: its modules, its blocks and what trains of them, its costs, its compression."""
