"""Benches: timer and result rows."""
