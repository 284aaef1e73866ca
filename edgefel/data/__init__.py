"""Data sets: readers, synthetic faces, balanced epochs."""
