"""What carries a bundle to where it runs: an archive for a Jetson, Triton Inference Server, DeepStream."""
