"""Score any folder of videos by an experiment's judge or student."""
