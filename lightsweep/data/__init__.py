"""Data sets: read named sets, folders and npz files into arrays, and split them."""
