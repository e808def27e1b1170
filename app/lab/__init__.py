"""What a lab keeps: results, notes, lists, jobs."""
