"""Hostile bytes for every place where auditcore reads what a stranger has sent."""
