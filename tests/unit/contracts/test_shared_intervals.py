"""Which automatic interval the models of an audit share."""

from __future__ import annotations

from itertools import permutations

import pytest

from auditcore.contracts.augmentations import Brightness, Gmic, Rotate, Scale
from auditcore.contracts.automatic_intervals import automatic_intervals, narrowest_intervals, with_shared_intervals
from auditcore.contracts.checks import DeletionCheck, SweepCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.plan import AuditPlan

PLAN = AuditPlan(
    explainers=(Gradient(),),
    checks=(
        SweepCheck(augmentations=(Scale(), Rotate(interval=(-5, 5)), Gmic(filter="sharpen", interval="auto"))),
        DeletionCheck(),
        SweepCheck(name="again", augmentations=(Brightness(),)),
    ),
)
SCALE, SHARPEN, AGAIN = "sweep.scale.interval", "sweep.gmic_sharpen.interval", "again.brightness.interval"
MEASURED = {
    "wide": {SCALE: (0.8, 1.2, 0.0), SHARPEN: (0.0, 0.2, 1.0), AGAIN: (-0.3, 0.3, 1.0), "explainer.iba": (7.0, 8.0)},
    "narrow": {SCALE: (0.9, 1.1, 1.0), SHARPEN: (0.0, 0.5, 1.0), AGAIN: (-0.2, 0.2, 1.0)},
    "blind": {},
}


def test_explicit_intervals_and_other_checks_have_no_key() -> None:
    assert [key for _, _, key in automatic_intervals(PLAN)] == [SCALE, SHARPEN, AGAIN]


def test_each_interval_has_its_own_narrowest_model_in_any_order() -> None:
    for order in permutations(MEASURED):
        found = narrowest_intervals(PLAN, {name: MEASURED[name] for name in order})
        assert {key: (one.model, one.values) for key, one in found.items()} == {
            SCALE: ("narrow", (0.9, 1.1, 1.0)),
            SHARPEN: ("wide", (0.0, 0.2, 1.0)),
            AGAIN: ("narrow", (-0.2, 0.2, 1.0)),
        }


def test_every_model_computes_with_the_shared_intervals_and_its_own_other_quantities() -> None:
    found = with_shared_intervals(PLAN, MEASURED)
    shared = {SCALE: (0.9, 1.1, 1.0), SHARPEN: (0.0, 0.2, 1.0), AGAIN: (-0.2, 0.2, 1.0)}
    assert found == {
        "wide": {**shared, "explainer.iba": (7.0, 8.0)},
        "narrow": shared,
        # it could use no image, which must not hold up the others
        "blind": shared,
    }
    assert MEASURED["wide"][SCALE] == (0.8, 1.2, 0.0)


def test_one_model_keeps_its_own() -> None:
    assert with_shared_intervals(PLAN, {None: MEASURED["wide"]}) == {None: MEASURED["wide"]}


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_of_equal_intervals_the_first_model_is_named(names: tuple[str, str]) -> None:
    found = narrowest_intervals(PLAN, {name: {SCALE: (0.9, 1.1, 1.0)} for name in names})
    assert found[SCALE].model == names[0]


def test_without_any_measured_model_there_is_none() -> None:
    assert narrowest_intervals(PLAN, {"blind": {}}) == {}
    assert narrowest_intervals(PLAN, {}) == {}
