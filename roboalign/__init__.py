"""RoboAlign: robot video world models, aligned by a distilled reward, rolled out without drift."""

__version__ = "0.1.0"
