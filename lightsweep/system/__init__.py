"""What lies outside: files, the terminal, processes, the machine."""
