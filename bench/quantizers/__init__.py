"""Post-training quantizers on the same FP32 file, calibration images and judge."""
