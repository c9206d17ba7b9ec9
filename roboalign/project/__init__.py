"""New projects: the files of `roboalign init`."""
