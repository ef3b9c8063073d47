"""The sweep file: settings of arm, data set, grid, ablation and search, and how they are read."""
