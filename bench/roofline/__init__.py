"""What a device cannot go below: operations and bytes of a network at the ceilings of the hardware."""
