"""RobotWorldBench: degradations, labels, splits."""
