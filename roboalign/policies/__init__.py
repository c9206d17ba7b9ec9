"""Policies that are evaluated in the simulators and in the world models."""
