"""From image files to arrays in memory: named sets, folders, npz files, and their splits."""
