"""What the service does for its users. Knows nothing of HTTP."""
