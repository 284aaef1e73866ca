"""Experiments behind the documentation: scripts that measure once and print a result file."""
