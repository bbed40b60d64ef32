"""How a run runs: the trainer with its hooks, checkpoints, resume, signals, console, processes."""
