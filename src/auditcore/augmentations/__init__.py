"""Harmless changes of an image: sampled parameters, applied in batches on the device."""
