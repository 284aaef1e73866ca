"""Training: loop, losses, augmentation, checkpoints."""
