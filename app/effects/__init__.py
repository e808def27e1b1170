"""Ablation at one token and over a prompt."""
