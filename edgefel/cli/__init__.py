"""The command line: one file per command, options defined once in `params`."""
