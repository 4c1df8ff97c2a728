"""How two JSON documents differ."""

from __future__ import annotations

import pytest

from auditcore.evidence.findings import differences


@pytest.mark.parametrize(
    ("found", "expected", "where"),
    [
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, ["x.a"]),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ["x.a[1].b"]),
        ({"a": [1]}, {"a": [1, 2]}, ["x.a"]),
        ({"a": None}, {}, ["x.a"]),
        ({}, {"a": None}, ["x.a"]),
        ({"a": {}}, {"a": []}, ["x.a"]),
        (1, 1, []),
    ],
)
def test_every_leaf_that_differs_is_named(found: object, expected: object, where: list[str]) -> None:
    assert [finding.where for finding in differences(found, expected, "x")] == where


def test_a_long_value_is_cut() -> None:
    (finding,) = differences("a" * 1000, "b", "x")
    assert len(finding.message) < 200
    assert finding.message.endswith("..., and 'b' was expected")
