"""Random numbers that belong to an image, the same on every device."""
