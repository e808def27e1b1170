"""Measurements. Each module prints a table and, last, one line of JSON; ``make bench`` writes docs/performance.md."""
