"""Lightsweep: distributed hyperparameter and ablation sweeps for tiny CNNs.

The method that is swept is arXiv 2501.15547, "Building Efficient Lightweight CNN Models".
"""

__version__ = "0.1.0"
