"""Simulated robots: scripted experts and failing policies, recorded with their states."""
