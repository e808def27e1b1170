"""The server itself: models, health, log-in, self-check."""
