"""How training went: learning curves, one trial's course, signs of failure."""
