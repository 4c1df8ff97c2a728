"""Audits the explanations of image classifiers: how stable they are, and how faithful to the model."""
