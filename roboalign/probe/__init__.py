"""The state probe: from pixels to the simulator's state."""
