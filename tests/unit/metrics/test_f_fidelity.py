from __future__ import annotations

import pytest
import torch

from auditcore.errors import ShapeError
from auditcore.metrics.f_fidelity import removal_count, removed_at_random


@pytest.mark.parametrize(
    ("candidates", "alpha", "beta", "expected"),
    [
        (50, 0.5, 0.1, 25),  # half of the explanation
        (500, 0.5, 0.1, 100),  # no more than fine-tuning has shown
        (1, 0.5, 0.1, 0),
        (100, 0.57, 0.9, 57),  # 56.99999999999999 in binary numbers
    ],
)
def test_copies_lose_what_alpha_and_beta_allow(candidates: int, alpha: float, beta: float, expected: int) -> None:
    assert removal_count(candidates, alpha, beta, 1000) == expected


def test_exactly_so_many_candidates_are_removed_and_nothing_else() -> None:
    torch.manual_seed(0)
    candidates, lottery = torch.rand(20, 50) < 0.5, torch.rand(20, 50)
    counts = torch.arange(20) % 7
    removed = removed_at_random(candidates, lottery, counts)
    assert torch.equal(removed.sum(dim=1), counts)
    assert not bool((removed & ~candidates).any())
    for row in range(20):
        tickets = sorted(lottery[row][candidates[row]].tolist(), reverse=True)[: int(counts[row])]
        assert sorted(lottery[row][removed[row]].tolist(), reverse=True) == tickets


def test_more_than_the_candidates_cannot_be_removed() -> None:
    with pytest.raises(ShapeError, match="candidates"):
        removed_at_random(torch.eye(2, dtype=torch.bool), torch.rand(2, 2), torch.tensor([1, 2]))
    with pytest.raises(ShapeError):
        removed_at_random(torch.eye(2, dtype=torch.bool), torch.rand(2, 3), torch.tensor([1, 1]))
