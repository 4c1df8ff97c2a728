"""Sends events to webhooks."""
