"""The host never waits for CUDA in the middle of a micro-batch; see `gpu.syncs`."""

from __future__ import annotations

import pytest
import torch

from auditcore.contracts.plan import AuditPlan
from gpu import samples
from gpu.syncs import EXEMPT, places_of_syncs, subjects

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
TRIED = [pytest.param(plan, id=subject) for subject, plan in subjects() if subject not in EXEMPT]


@pytest.mark.parametrize("plan", TRIED)
def test_the_host_does_not_wait_within_a_micro_batch(plan: AuditPlan) -> None:
    assert places_of_syncs(samples.on(torch.device("cuda")), plan) == {}
