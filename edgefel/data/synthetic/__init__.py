"""Synthetic faces with known expressions."""
