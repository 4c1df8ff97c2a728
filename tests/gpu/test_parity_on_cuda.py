"""Every explainer and every check on CUDA compared with the CPU; see `gpu.parity`."""

from __future__ import annotations

import pytest
import torch

from auditcore.contracts.checks import Check
from auditcore.contracts.explainers import Explainer
from gpu import samples
from gpu.comparison import failures
from gpu.parity import DEMO_EXPLAINERS, compare_check, compare_demo_maps, compare_explainer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
DEVICE = torch.device("cuda")


@pytest.mark.parametrize("explainer", samples.EXPLAINERS, ids=lambda explainer: explainer.label)
def test_an_explainer_gives_the_same_on_cuda(explainer: Explainer) -> None:
    assert failures(compare_explainer(explainer, DEVICE)) == []


@pytest.mark.parametrize("explainer", DEMO_EXPLAINERS, ids=lambda explainer: explainer.label)
def test_maps_of_photos_are_the_same_on_cuda(explainer: Explainer) -> None:
    assert failures(compare_demo_maps(explainer, DEVICE)) == []


@pytest.mark.parametrize("check", samples.CHECKS, ids=lambda check: check.label)
def test_a_check_gives_the_same_on_cuda(check: Check) -> None:
    assert failures(compare_check(check, DEVICE)) == []
