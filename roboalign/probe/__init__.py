"""The state probe: predicts the simulator's state from images."""
