"""The checker that `make test` puts around every function with tensors: their shapes and types, at each call."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

# an int where a float is declared is fine, as for mypy
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
