"""Servers of models: what they say of themselves, and how they are asked. Needs no torch."""
