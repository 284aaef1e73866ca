"""Running many independent tasks: on threads of this process, or on the machines of a Ray cluster."""
