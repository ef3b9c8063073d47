"""The fast path on processors: convolutions in C for images that lie last, and the nets that can use them."""
