"""Neurons by their weights, the null space, token frequency."""
