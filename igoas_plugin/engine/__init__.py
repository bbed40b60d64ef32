"""How a run runs: the trainer with its hooks, checkpoints, signals, console, processes."""
