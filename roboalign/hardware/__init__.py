"""What the experiment runs on: devices, executor, limits."""
