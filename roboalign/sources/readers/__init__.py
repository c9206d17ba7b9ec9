"""Data sets that were recorded elsewhere, one file a format."""
