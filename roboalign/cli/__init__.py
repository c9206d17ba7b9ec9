"""The command line: one file a command, each with its help text, its arguments and what it runs."""
