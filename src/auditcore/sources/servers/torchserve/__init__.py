"""Models behind TorchServe."""
