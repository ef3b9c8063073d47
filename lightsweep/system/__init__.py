"""Interface to the operating system: files, terminal, processes, machine."""
