"""Models and backends against each other, in turn, with accuracy, size and memory beside the speed."""
