"""What an audit measures: explainers and metrics glued together, one file a check."""
