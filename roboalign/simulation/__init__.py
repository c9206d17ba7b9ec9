"""Trained world models as simulators, in Python and on the command line."""
