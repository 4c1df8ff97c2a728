"""Rows of a quantity of the whole audit travel as JSON, long ones packed, and come back as they were."""

from __future__ import annotations

import math

import pytest

from auditcore.contracts.shards import PACKED_FROM, SharedSample


@pytest.mark.parametrize("length", [3, PACKED_FROM - 1, PACKED_FROM, 5000])
def test_rows_come_back_bit_by_bit(length: int) -> None:
    rows = [[math.sin(number) * 10.0 ** (number % 40 - 20) for number in range(length)], [-0.0, *range(1, length)]]
    sent = SharedSample.of("explainer.iba", rows)
    assert (len(sent.packed), len(sent.values)) == ((2, 0) if length >= PACKED_FROM else (0, 2))
    received = SharedSample.model_validate_json(sent.model_dump_json())
    assert [list(row) for row in received.rows] == rows
    assert math.copysign(1, received.rows[1][0]) == -1
    if length >= PACKED_FROM:
        assert len(sent.model_dump_json()) < 11 * 2 * length + 200


def test_nothing_is_sent_as_nothing() -> None:
    assert SharedSample.of("key", []).rows == ()
