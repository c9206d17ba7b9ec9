"""Scores folders of videos by an experiment's judge or student."""
