"""Inspection of a source before it is used: content, effect of its spec, and a proposed spec for a new data set."""
