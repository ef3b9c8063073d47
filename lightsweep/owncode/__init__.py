"""Code of the user's own, named FILE.py:function: its sources, its signature, and how it is loaded."""
