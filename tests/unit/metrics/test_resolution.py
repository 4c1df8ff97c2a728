"""Differences that are rounding only are ties."""

from __future__ import annotations

import torch

import reference
from auditcore.metrics.resolution import resolved_relevance


def test_what_rounding_moves_is_a_tie() -> None:
    maps = torch.tensor([[4.0, 4.0 + 2e-6, 4.0 - 2e-6, 3.9, -1e-3, -2e-3], [0.0] * 6])
    resolved = resolved_relevance(maps)
    assert [row.tolist() for row in resolved] == [reference.resolved(row.tolist()) for row in maps]
    assert len(set(resolved[0].tolist())) == 4
    assert resolved[0, 4] > resolved[0, 5]


def test_a_map_of_zeros_resolves_nothing() -> None:
    assert resolved_relevance(torch.zeros(1, 4)).tolist() == [[0.0] * 4]
    assert reference.resolved([0.0] * 4) == [0.0] * 4
