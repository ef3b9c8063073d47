"""The course of training: learning curves, single trials, signs of failure."""
