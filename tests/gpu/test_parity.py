"""Parity can fail, and covers everything: tests of the comparison itself, on the CPU."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import digits
from auditcore.checks.registry import CHECKS
from auditcore.contracts.checks import Check, ComplexityCheck, DeletionCheck, SensitivityCheck
from auditcore.contracts.explainers import Gradient, has_defaults
from auditcore.contracts.shards import CurveSamples, Measurement, ShardResult
from auditcore.explainers.registry import EXPLAINERS
from auditcore.models.classifier import Classifier
from gpu import parity, samples, tolerances
from gpu.comparison import Row, compare_audits, compare_maps, failures, largest_deviations
from gpu.context import Context
from gpu.parity import compare_plan

CPU = torch.device("cpu")
PLAN = samples.plan_for(DeletionCheck(grid=4, repeats=1))


@pytest.fixture(scope="module")
def found() -> tuple[ShardResult, ...]:
    return samples.audit(samples.on(CPU), PLAN, samples.digit_images())


def changed(found: tuple[ShardResult, ...], change: Callable[[Measurement], Measurement]) -> tuple[ShardResult, ...]:
    """The same results with one measurement changed."""
    *before, last = found
    place = next(
        i for i, one in enumerate(last.measurements) if (one.explainer, one.metric) == ("gradient", "lerf_auc")
    )
    measurements = list(last.measurements)
    measurements[place] = change(measurements[place])
    return (*before, last.model_copy(update={"measurements": tuple(measurements)}))


def with_points(one: Measurement, moved: dict[int, float]) -> Measurement:
    """The first image's curve with some points moved."""
    assert one.curve is not None
    first, *others = one.curve.values
    assert first is not None
    points = tuple((value or 0.0) + moved.get(position, 0.0) for position, value in enumerate(first))
    return one.model_copy(update={"curve": CurveSamples(x=one.curve.x, values=(points, *others))})


def largest_step(found: tuple[ShardResult, ...]) -> float:
    one = next(one for one in found[-1].measurements if (one.explainer, one.metric) == ("gradient", "lerf_auc"))
    assert one.curve is not None
    row = [value for value in one.curve.values[0] or () if value is not None]
    return max(abs(a - b) for a, b in itertools.pairwise(row))


def test_tolerances_and_samples_name_every_explainer_and_check() -> None:
    assert set(tolerances.CHECKS) == set(CHECKS)
    # samples are audits of one model
    of_one = {kind for kind in CHECKS if "several_models" not in kind.needs}
    assert {type(check) for check in samples.CHECKS} == of_one
    tried = {type(explainer) for explainer in samples.EXPLAINERS}
    # maps that were uploaded are not computed, and code that a request names has tests of its own
    assert set(tolerances.MAPS) == tried == {kind for kind in EXPLAINERS if has_defaults(kind)}
    assert set(tolerances.PHOTO_MAPS) == tried >= tolerances.PLATEAUS


def test_the_same_audit_twice_agrees(found: tuple[ShardResult, ...]) -> None:
    rows = compare_plan("twice", PLAN, samples.on(CPU), samples.on(CPU))
    assert failures(rows) == []
    assert {row.metric for row in rows} >= {"lerf_auc", "lerf_auc curve", "probability of the original images"}
    assert all(row.deviation == 0 for row in rows)
    assert set(largest_deviations(found[-1], found[-1]).values()) == {0.0}


@pytest.mark.parametrize("share", [0.99, None], ids=["one percent", "undefined"])
def test_a_wrong_value_is_found(found: tuple[ShardResult, ...], share: float | None) -> None:
    planted = changed(
        found,
        lambda one: one.model_copy(
            update={"values": (None if share is None else share * (one.values[0] or 0.0), *one.values[1:])}
        ),
    )
    (line,) = failures(compare_audits("planted", PLAN, found, planted))
    assert line.startswith("planted: lerf_auc of gradient deviates by")
    original = next(one for one in found[-1].measurements if (one.explainer, one.metric) == ("gradient", "lerf_auc"))
    assert original.values[0] is not None
    moved = math.inf if share is None else (1 - share) * original.values[0]
    assert largest_deviations(found[-1], planted[-1])["deletion.lerf_auc"] == pytest.approx(moved, rel=0.01)


def test_one_point_of_a_curve_may_move_by_a_step_and_no_more(found: tuple[ShardResult, ...]) -> None:
    step = largest_step(found)
    assert step > 0.01

    def lines(moved: dict[int, float]) -> list[str]:
        return failures(compare_audits("steps", PLAN, found, changed(found, lambda one: with_points(one, moved))))

    assert lines({3: 0.9 * step}) == []
    assert lines({3: 1.1 * step + 1e-3}) != []
    assert lines({3: 0.9 * step, 7: 0.9 * step}) != []


def test_a_mean_may_move_with_its_curve_only(found: tuple[ShardResult, ...]) -> None:
    step = 0.9 * largest_step(found)

    def moved(one: Measurement, share: float) -> Measurement:
        assert one.curve is not None
        mean = (one.values[0] or 0.0) + share * step / (len(one.curve.x) - 1)
        return with_points(one, {3: step}).model_copy(update={"values": (mean, *one.values[1:])})

    def lines(share: float) -> list[str]:
        return failures(compare_audits("means", PLAN, found, changed(found, lambda one: moved(one, share))))

    assert lines(1.0) == []
    (line,) = lines(1.2)
    assert "lerf_auc of gradient" in line


def test_another_class_and_a_missing_metric_are_found(found: tuple[ShardResult, ...]) -> None:
    image, *images = found[-1].images
    target = image.targets[0]
    other = image.model_copy(update={"targets": (target.model_copy(update={"target": target.target + 1}),)})
    planted = found[-1].model_copy(update={"images": (other, *images)})
    assert len(failures(compare_audits("class", PLAN, found, (planted,)))) == 1
    planted = found[-1].model_copy(update={"measurements": found[-1].measurements[1:]})
    assert len(failures(compare_audits("metric", PLAN, found, (planted,)))) == 1


@pytest.mark.parametrize("check", [DeletionCheck(grid=4, repeats=1), SensitivityCheck(draws=2), ComplexityCheck()])
def test_a_model_that_computes_something_else_is_found(check: Check) -> None:
    module = copy.deepcopy(digits.trained())
    stem = module.stem[0]
    assert isinstance(stem, nn.Conv2d)
    with torch.no_grad():
        stem.weight.mul_(1.02)
    other = Classifier(module, preprocessing=digits.PREPROCESSING)
    assert failures(compare_plan("planted", samples.plan_for(check), samples.on(CPU), other)) != []


@pytest.mark.parametrize("planted", [1.002, math.nan, math.inf])
def test_a_wrong_map_is_found(planted: float) -> None:
    maps = torch.linspace(-1, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4)
    assert compare_maps("maps", Gradient(), maps, maps * (1 + 1e-5)).ok
    other = maps.clone()
    other[1, 2, 3, 3] *= planted
    row = compare_maps("maps", Gradient(), maps, other)
    assert not row.ok
    assert dataclasses.asdict(row) == row.as_json()
    assert not compare_maps("maps", Gradient(), maps, maps[:, :1]).ok


def test_a_comparison_that_breaks_or_has_no_time_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_explainer: object, _device: torch.device) -> list[Row]:
        message = "planted"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(parity, "compare_explainer", breaks)
    monkeypatch.setattr(
        parity, "compare_check", lambda check, _device: [Row(check.label, None, "x", 2.0, 1.0, ok=False)]
    )
    monkeypatch.setattr(parity, "compare_demo_maps", lambda _explainer, _device: [])
    monkeypatch.setattr(parity, "deviations", lambda _precision, _device, **_options: {})
    said: list[str] = []
    found = parity.run(Context(CPU, 100.0, tiny=True, say=said.append))
    assert isinstance(found["failures"], list)
    assert "explainer gradient: ZeroDivisionError: planted" in found["failures"]
    assert "deletion: x deviates by 2, allowed 1" in found["failures"]
    assert len(found["failures"]) == len(samples.EXPLAINERS) + len(samples.CHECKS)
    found = parity.run(Context(CPU, -1.0, tiny=True, say=said.append))
    assert isinstance(found["failures"], list)
    assert "maps random: not compared, no time was left" in found["failures"]
    assert found["faster_precisions"] == dict.fromkeys(parity.PRECISIONS, "no time was left")
