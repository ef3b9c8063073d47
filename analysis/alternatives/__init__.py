"""Reference nets against the sweep's own nets: which dominate which."""
