"""Models and backends timed in turn, with accuracy, size and memory."""
