"""`edgefel data prepare`: aligned face crops from a data set."""
