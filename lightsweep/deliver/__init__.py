"""What leaves a run, measured and checked: files of nets, latency and memory, trials trained again."""
