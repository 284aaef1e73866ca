"""Reading and writing files: nothing half-written, clear errors."""
