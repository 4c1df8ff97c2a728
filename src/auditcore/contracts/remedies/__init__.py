"""Contracts of remedies: from a failed condition to a fine-tuned model and the audit of both. They need no torch."""
