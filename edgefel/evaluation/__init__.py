"""Metrics, evaluation runs and their figures."""
