"""Calibration methods compared."""
