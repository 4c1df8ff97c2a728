"""Bytes of strangers are read, or refused with an error that says why; nothing else happens.

A few hundred hostile files for each place; `make fuzz-intakes` tries as many as time allows, guided by coverage.
"""

from __future__ import annotations

import random

import pytest

from fuzz.intakes import INTAKES
from fuzz.mutations import mutated

FILES = 300


@pytest.mark.parametrize("name", INTAKES)
def test_good_bytes_are_read(name: str) -> None:
    intake = INTAKES[name]
    accepted = [intake.accepts(seed) for seed in intake.seeds()]
    assert sum(accepted) >= len(accepted) / 3


@pytest.mark.parametrize("name", INTAKES)
def test_hostile_bytes_are_read_or_refused(name: str) -> None:
    intake, draw = INTAKES[name], random.Random(name)  # noqa: S311 - files, not secrets
    refused = 0
    for _ in range(FILES):
        data = mutated(intake.seeds(), draw)
        try:
            refused += not intake.accepts(data)
        except Exception as error:
            error.add_note(f"{name} was given {data[:2000]!r}")
            raise
    assert refused > FILES / 10
