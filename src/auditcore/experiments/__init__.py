"""Experiments: studies, remedies and measures that retrain, done stage by stage with what is kept in between."""
