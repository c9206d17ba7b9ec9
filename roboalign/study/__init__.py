"""Studies: queued experiments, their table and plot."""
