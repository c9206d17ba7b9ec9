"""Robots: one file per kind of source of episodes."""
