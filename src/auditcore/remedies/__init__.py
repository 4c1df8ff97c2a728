"""Remedies: from a failed condition to a fine-tuned model, and both audited alike."""
