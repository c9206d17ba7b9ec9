"""Trained world models as simulators: from the files of an experiment, and on the command line."""
