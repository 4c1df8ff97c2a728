"""Contracts of the measures that retrain a model: ROAR and KAR, F-Fidelity, IDSDS. They need no torch."""
