"""A prompt: its tokens, its trace, its page."""
