"""Model registries: which files a reference stands for. Needs no torch."""
