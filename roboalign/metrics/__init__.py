"""Metrics of videos and scores: pixel and perceptual metrics, Fréchet distances, statistics, agreement in groups."""
