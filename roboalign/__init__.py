"""RoboAlign: robot video world models, aligned by a distilled reward and decoded by sliding window re-encoding."""

__version__ = "0.1.0"
