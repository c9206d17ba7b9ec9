"""Recognition of data set formats, one file per format."""
