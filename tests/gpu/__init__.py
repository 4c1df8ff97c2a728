"""Checks and measurements on a machine with CUDA, which need no registry there: `python3 tests/gpu/run.py --help`."""
