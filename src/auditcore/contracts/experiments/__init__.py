"""Contracts of experiments: studies, remedies, and measures that retrain, each a plan of stages. They need no torch."""
