"""The hardware that the experiment runs on: devices, executor, limits."""
