"""Studies: runs of one experiment as queued DVC experiments, and their table and plot."""
