"""Where the time of a session goes, by groups of operators, from the runtimes' own profilers."""
