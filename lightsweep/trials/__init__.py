"""Trials before training: their settings, their table of stages, and content keys."""
