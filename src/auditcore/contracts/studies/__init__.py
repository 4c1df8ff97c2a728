"""Contracts of studies: training methods compared over seeds. They need no torch."""
