"""Two models or checkpoints side by side."""
