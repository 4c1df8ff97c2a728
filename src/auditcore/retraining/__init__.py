"""Measures of explanations that train models: ROAR and KAR, F-Fidelity, IDSDS."""
