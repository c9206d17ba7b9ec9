"""Video metrics, statistics, scoring."""
