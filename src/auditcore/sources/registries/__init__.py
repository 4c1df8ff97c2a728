"""Registries of models: which files a reference stands for. Needs no torch."""
