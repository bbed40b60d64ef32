"""Pictures: what tools/visualize.py draws, and what tensorboard gets; one file a picture."""
