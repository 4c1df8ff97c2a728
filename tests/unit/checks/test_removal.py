"""What the checks that remove pixels share: costs foreseen, fills of tiny images, thinned curves."""

from __future__ import annotations

import pytest
import torch

from auditcore.checks import deletion, insertion_deletion
from auditcore.checks.removal import blurred
from auditcore.checks.table import CHECKS
from auditcore.contracts.checks import Check, DeletionCheck, InsertionDeletionCheck, PixelFlippingCheck, RoadCheck
from auditcore.contracts.estimate import BACKWARD_COST, passes_of
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.plan import AuditPlan
from auditcore.models.classifier import Classifier
from naive_removal import CountingNet, chunk_of, raw


@pytest.mark.parametrize(
    "check",
    [
        PixelFlippingCheck(),
        PixelFlippingCheck(pixels_per_step=5000, share=0.3),
        InsertionDeletionCheck(pixels_per_step=20_000),
        RoadCheck(shares=(0.1, 0.2)),
    ],
    ids=lambda check: check.kind,
)
def test_the_passes_foreseen_are_those_made(check: Check) -> None:
    classifier = Classifier(CountingNet(224), preprocessing=raw(224))
    chunk = chunk_of(classifier, torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)), (Gradient(),))
    CHECKS[type(check)].compute(check, chunk, {})
    made = classifier.ledger.forward_images + BACKWARD_COST * classifier.ledger.backward_images
    # a chunk made by hand predicts its image before it is explained; the engine does both in one pass
    assert passes_of(AuditPlan(explainers=(Gradient(),), checks=(check,))) == round(made - 1)


def test_a_blur_shrinks_on_tiny_images() -> None:
    tiny = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(blurred(tiny, 31, 5.0), blurred(tiny, 15, 5.0))
    chunk = chunk_of(Classifier(CountingNet(8), preprocessing=raw(8)), tiny, (Gradient(),))
    games = InsertionDeletionCheck(games=("deletion_blur",))
    found = insertion_deletion.compute(games, chunk, {}) + deletion.compute(
        DeletionCheck(grid=2, repeats=1, fill="blur"), chunk, {}
    )
    assert all(measured.values[0] is not None for measured in found)
