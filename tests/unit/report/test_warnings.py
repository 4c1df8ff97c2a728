"""Warnings of a report: when each is given, what it says, and when it is not."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

import made_up_audits
from auditcore.contracts.augmentations import Brightness, Rotate
from auditcore.contracts.checks import (
    Check,
    ComplexityCheck,
    DeletionCheck,
    EddaCheck,
    InsertionDeletionCheck,
    PixelFlippingCheck,
    RoadCheck,
    SweepCheck,
)
from auditcore.contracts.explainers import (
    Ablation,
    DeepLift,
    Explainer,
    GradCam,
    Gradient,
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    NoiseTunnel,
    Occlusion,
    Random,
    Rise,
)
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.presets import PRESETS
from auditcore.contracts.report import ReportWarning
from auditcore.contracts.shards import Measurement
from auditcore.report.page.html import render_html
from auditcore.report.warnings import warning_text
from auditcore_service.cli.report_view import show_report

AUGMENTATIONS = (Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-20, 20)))


def sweep_row(value: float | None, model_metric: str = "probability_score", **changes: object) -> Measurement:
    fields: dict[str, object] = {"check": "sweep", "metric": model_metric, "unit": "area", "variant": "brightness"}
    explainer = changes.pop("explainer", None)
    return made_up_audits.row(explainer, [value], **(fields | changes))  # type: ignore[arg-type]


def warnings(plan: AuditPlan, *rows: Measurement, code: str) -> list[ReportWarning]:
    shard = made_up_audits.shard(None, {0: [1]}, *rows)
    return [one for one in made_up_audits.report(shard, plan=plan).warnings if one.code == code]


def sweep_plan(levels: int) -> AuditPlan:
    checks = (
        SweepCheck(augmentations=AUGMENTATIONS, levels=levels),
        SweepCheck(name="again", augmentations=AUGMENTATIONS),
    )
    return AuditPlan(explainers=(Gradient(),), checks=checks)


@pytest.mark.parametrize(("levels", "expected"), [(2, ["sweep"]), (10, ["sweep"]), (11, []), (41, [])])
def test_a_sweep_of_few_levels_says_that_its_s_depends_on_them(levels: int, expected: list[str]) -> None:
    found = warnings(sweep_plan(levels), sweep_row(0.8), code="few_levels")
    assert [(one.check, one.variant, one.explainer) for one in found] == [(label, None, None) for label in expected]
    assert all(f"{levels} levels" in one.message and "at least 11" in one.message for one in found)


def test_a_sweep_without_any_number_has_nothing_to_warn_of() -> None:
    assert warnings(sweep_plan(3), sweep_row(None, reasons={0: "why"}), code="few_levels") == []


@pytest.mark.parametrize(("value", "count"), [(0.499, 1), (0.5, 0), (0.9, 0), (None, 0)])
def test_a_prediction_that_collapses_is_named_with_model_and_augmentation(value: float | None, count: int) -> None:
    reasons = {0: "why"} if value is None else {}
    rows = [
        sweep_row(value, reasons=reasons),
        sweep_row(0.8, variant="rotate"),
        # an explainer's own score is no prediction
        sweep_row(0.1, "pearson_score", explainer="gradient"),
    ]
    shards = [made_up_audits.shard("one", {0: [1]}, sweep_row(0.8)), made_up_audits.shard("two", {0: [1]}, *rows)]
    report = made_up_audits.report(*shards, plan=sweep_plan(11))
    found = [one for one in report.warnings if one.code == "prediction_collapses"]
    assert [(one.model, one.check, one.variant) for one in found] == [("two", "sweep", "brightness")] * count
    assert all("0.499" in one.message for one in found)


BASELINES: list[Explainer] = [
    IntegratedGradients(baseline="black"),
    GradientShap(baseline="black"),
    DeepLift(baseline="black"),
    Occlusion(baseline="black"),
    Ablation(baseline="black"),
    KernelShap(baseline="black"),
    NoiseTunnel(method=IntegratedGradients(baseline="black")),
]


def differences(explainers: Sequence[Explainer], checks: Sequence[Check]) -> list[ReportWarning]:
    """Warnings where every explainer has a number of every check."""
    rows = [
        made_up_audits.row(explainer.label, [0.5], check=check.label, metric=next(iter(METRICS[check.kind])))
        for explainer in explainers
        for check in checks
    ]
    plan = AuditPlan(explainers=tuple(explainers), checks=tuple(checks))
    return warnings(plan, *rows, code="baseline_differs_from_fill")


@pytest.mark.parametrize("explainer", BASELINES, ids=lambda one: one.kind)
def test_every_method_with_a_baseline_is_compared_with_every_fill(explainer: Explainer) -> None:
    checks = (
        DeletionCheck(),
        DeletionCheck(name="to_black", fill="black"),
        EddaCheck(),
        PixelFlippingCheck(fill="mean"),
        PixelFlippingCheck(name="to_black_too", fill="black"),
        InsertionDeletionCheck(),
        # they have no fill of one color
        RoadCheck(),
        ComplexityCheck(),
    )
    found = differences([explainer, Gradient(), InputXGradient(), GradCam(), Rise(), Random()], checks)
    assert [(one.check, one.explainer) for one in found] == [
        (check, explainer.label) for check in ("deletion", "pixel_flipping", "insertion_deletion")
    ]
    assert all(explainer.label in one.message and str(one.check) in one.message for one in found)


def test_the_message_says_what_to_set() -> None:
    shap = GradientShap(name="shap", baseline="uniform")
    tunnel = NoiseTunnel(name="tunnel", method=DeepLift(baseline="blur"))
    gradients = IntegratedGradients(baseline="mean")
    checks = (
        DeletionCheck(),
        EddaCheck(name="kept"),
        PixelFlippingCheck(),
        InsertionDeletionCheck(),
        InsertionDeletionCheck(name="blurred", games=("deletion_blur",)),
    )
    remedies = {
        (one.explainer, one.check): one.message.rsplit("a different question. ", 1)[1]
        for one in differences([gradients, tunnel, shap], checks)
    }
    nothing = "No baseline is a blur of 11 pixels; keep only the games toward zero, and set `{}` to `mean`."
    assert remedies == {
        ("tunnel", "deletion"): "Set `method.baseline` of tunnel to `mean`, or `fill` of deletion to `blur`.",
        ("shap", "deletion"): "Set `baseline` of shap to `mean`.",
        ("integrated_gradients", "kept"): "Set `baseline` of integrated_gradients to `black`, or `color` of kept to "
        "`mean`.",
        ("tunnel", "kept"): "Set `method.baseline` of tunnel to `black`.",
        ("shap", "kept"): "Set `baseline` of shap to `black`.",
        ("integrated_gradients", "pixel_flipping"): "Set `baseline` of integrated_gradients to `black`, or `fill` of "
        "pixel_flipping to `mean`.",
        ("tunnel", "pixel_flipping"): "Set `method.baseline` of tunnel to `black`.",
        ("shap", "pixel_flipping"): "Set `baseline` of shap to `black`.",
        ("integrated_gradients", "insertion_deletion"): "Set `games` of insertion_deletion to `deletion_zero`, "
        "`insertion_zero`.",
        ("tunnel", "insertion_deletion"): nothing.format("method.baseline"),
        ("shap", "insertion_deletion"): nothing.format("baseline"),
        ("integrated_gradients", "blurred"): nothing.format("baseline"),
        ("tunnel", "blurred"): nothing.format("method.baseline"),
        ("shap", "blurred"): nothing.format("baseline"),
    }


def test_following_the_message_makes_them_match() -> None:
    checks = (
        DeletionCheck(fill="blur"),
        InsertionDeletionCheck(games=("deletion_zero", "insertion_zero")),
        PixelFlippingCheck(fill="mean"),
    )
    assert differences([IntegratedGradients(baseline="blur")], checks[:1]) == []
    assert differences([IntegratedGradients(baseline="mean"), Occlusion()], checks[1:]) == []


def test_an_explainer_without_a_number_is_not_warned_of() -> None:
    plan = AuditPlan(explainers=(IntegratedGradients(baseline="black"),), checks=(DeletionCheck(),))
    missing = made_up_audits.row("integrated_gradients", [None], reasons={0: "why"})
    assert warnings(plan, missing, code="baseline_differs_from_fill") == []


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_our_presets_match(name: str) -> None:
    plan = PRESETS[name].build(0)  # type: ignore[index]
    found = differences(plan.explainers, plan.checks)
    assert found == []


def test_page_and_terminal_name_what_a_warning_concerns() -> None:
    shard = made_up_audits.shard(None, {0: [1]}, sweep_row(0.8))
    report = made_up_audits.report(shard, plan=sweep_plan(3))
    (warning,) = (one for one in report.warnings if one.code == "few_levels")
    assert warning_text(warning) == f"sweep: {warning.message}"
    about = warning.model_copy(update={"model": "a", "explainer": "gradient", "variant": "hue"})
    assert warning_text(about) == f"a, sweep, gradient, hue: {warning.message}"
    assert warning_text(warning.model_copy(update={"check": None})) == warning.message
    assert f"<li>sweep: {warning.message}</li>" in render_html(report)
    written = io.StringIO()
    show_report(report, Console(file=written, width=1000))
    assert f"warning: sweep: {warning.message}" in written.getvalue()
