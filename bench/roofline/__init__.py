"""Lower bounds on latency: operations and bytes of a network at the ceilings of the hardware."""
