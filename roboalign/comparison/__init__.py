"""Comparison of two runs: revisions, experiments or folders."""
