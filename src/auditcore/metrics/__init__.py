"""Formulas as pure tensor functions."""
