"""Who may do what: keys and their file, roles, how a request is identified, how much at once."""
