"""Experiments: measured once, recorded in docs/results, no part of the product."""
