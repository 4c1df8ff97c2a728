"""The price of measures that retrain, before any model is loaded, against what a real run counts."""

from __future__ import annotations

from typing import Any

import pytest

import auditcore
import deciding_patch as world
from auditcore.contracts.explainers import InputXGradient, KernelShap
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan, FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsPlan, IdsdsRequest
from auditcore.contracts.retraining.roar import RoarPlan, RoarRequest
from auditcore.costs.estimate import BACKWARD_COST
from auditcore.costs.retraining_estimate import f_fidelity_estimate, idsds_estimate, roar_estimate

TRAINING, MEASURED = world.images(32, 1), world.images(12, 3)
COMMON: dict[str, Any] = {
    "explainers": (InputXGradient(), KernelShap(segments="cells", count=4, samples=16)),
    "training": world.training(epochs=2),
}
ROAR = RoarPlan(**COMMON, measures=("roar", "kar"), shares=(0.0, 0.1, 1.0), repeats=2, rank_by="both")
FIDELITY = FFidelityPlan(**COMMON, sizes=(0.1, 0.2), samples=3, rank_by="both")
IDSDS = IdsdsPlan(**COMMON, rank_by="both")


@pytest.mark.parametrize(
    ("plan", "request_of", "measure", "estimate"),
    [
        (ROAR, RoarRequest, auditcore.roar, roar_estimate),
        (ROAR.model_copy(update={"target": "label"}), RoarRequest, auditcore.roar, roar_estimate),
        (FIDELITY, FFidelityRequest, auditcore.f_fidelity, f_fidelity_estimate),
        (FIDELITY.model_copy(update={"training": None}), FFidelityRequest, auditcore.f_fidelity, f_fidelity_estimate),
        (IDSDS, IdsdsRequest, auditcore.idsds, idsds_estimate),
        (IDSDS.model_copy(update={"training": None}), IdsdsRequest, auditcore.idsds, idsds_estimate),
    ],
)
def test_the_estimate_is_what_a_run_counts(plan: Any, request_of: Any, measure: Any, estimate: Any) -> None:
    asked = request_of(model=world.model(), images=world.STORED, plan=plan)
    report = measure(asked, images=TRAINING, validation=MEASURED, access=world.ACCESS)
    expected = estimate(plan, world.model(), training=len(TRAINING), validation=len(MEASURED), passes_per_s=100.0)
    assert report.not_applicable == {}
    assert expected.forward_images == report.cost.forward_images
    assert expected.backward_images == report.cost.backward_images
    assert expected.images == len(MEASURED) + (0 if plan.training is None else len(TRAINING))
    assert expected.basis == "assumed"
    # no map of these explainers carries relevance
    passes = expected.forward_images + BACKWARD_COST * expected.backward_images
    assert expected.passes == round(passes)
    assert expected.seconds == pytest.approx(passes / 100, abs=0.01)
