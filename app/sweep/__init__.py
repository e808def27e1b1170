"""Effects over a corpus."""
