"""Episode sources: simulated robots, readers of recorded data sets, and the conversion of both into episode stores."""
