"""Decodings of long rollouts, and their drift."""
