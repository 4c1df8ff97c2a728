"""Contracts of trainings: what to train, how, and what came out. They need no torch."""
