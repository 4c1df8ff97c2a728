"""Metrics: formulas as pure functions of tensors or arrays."""
