"""Augmentations: small changes of an image, applied to batches on the device."""
