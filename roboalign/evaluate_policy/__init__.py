"""One policy in one world, in Python and on the command line."""
