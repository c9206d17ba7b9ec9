"""The distilled reward model."""
