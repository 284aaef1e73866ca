"""What a run costs: latency per stage, memory, clocks, temperature, power. Torch-free."""
