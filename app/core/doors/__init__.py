"""Doors made from questions: routes, commands, the client's methods."""
