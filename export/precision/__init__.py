"""FP16 and INT8 graphs, and the mixed-precision search."""
