"""Readers of recorded data sets, one file per format."""
