"""The teacher that scores videos."""
