"""From a model reference to a classifier: one file a kind, weights apart, one table."""
