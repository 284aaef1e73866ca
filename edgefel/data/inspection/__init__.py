"""`edgefel data inspect`: statistics, duplicates, contact sheets."""
