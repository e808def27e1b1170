"""Repeated text."""
