"""The folder of one run: its plan, journal, tables, code and environment."""
