"""Benchmarks of the engine: `make bench`, `make bench-gpu`, `make headline`, `make intervals`.

`bench.py` is the command line; every other module is one subject of it.
"""
