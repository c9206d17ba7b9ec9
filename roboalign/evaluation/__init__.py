"""Scoring of clip sets, comparisons between them, and gates."""
