"""What the instrument's own two answers cost: questions of two subjects, and parts of the prompt page."""

TRACE = 2.0
EFFECTS = 4.0
