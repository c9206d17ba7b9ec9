"""Judges: models that score videos in every dimension of the reward."""
