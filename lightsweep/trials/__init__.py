"""What a trial is before it is trained: its settings, its table of stages, and their content keys."""
