"""Faster modes are opt-in, save what they promise, and the report tells how far they are from the exact audit."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import digits
from auditcore import AuditReport, AuditRequest, audit
from auditcore.contracts.checks import Check, DeletionCheck, EddaCheck, InsertionDeletionCheck
from auditcore.contracts.explainers import (
    Explainer,
    GradCam,
    Gradient,
    Iba,
    IntegratedGradients,
    LrpEpsilonPlusFlat,
    Random,
)
from auditcore.contracts.images import InlineImages
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.report import Deviation, Result
from auditcore.contracts.speed import Speed, deviation_images
from auditcore.models.classifier import Classifier
from auditcore.models.speed import Compiled
from auditcore.report.page.html import render_html
from auditcore.report.serialize import report_bytes

IMAGES = 6
GRID = 20
STEPS = GRID**2 - 1


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.write_weights(tmp_path_factory.mktemp("weights"))


def run(
    weights: Path,
    *checks: Check,
    explainers: tuple[Explainer, ...] = (Gradient(),),
    speed: Speed | None = None,
    shard_images: int = 64,
    target: str = "predicted",
) -> AuditReport:
    encoded = digits.encoded(IMAGES)
    plan = AuditPlan.model_validate(
        {
            "explainers": explainers,
            "checks": checks,
            "speed": speed or Speed(),
            "target": target,
            "top_n": 2 if target == "top" else 1,
        }
    )
    request = AuditRequest(
        model=digits.reference(weights),
        images=InlineImages.model_validate({"images": [{"data": base64.b64encode(image.data)} for image in encoded]}),
        plan=plan,
    )
    return audit(
        request,
        images=encoded,
        access=digits.access(weights.parent),
        shard_images=shard_images,
        micro_batch=64,
    )


def by_key(report: AuditReport) -> dict[tuple[str, str | None, str, str | None], Result]:
    rows = (*report.results, *report.controls)
    return {(row.check, row.explainer, row.metric, row.variant): row for row in rows}


def deviation_of(report: AuditReport) -> Deviation:
    assert report.deviation is not None
    return report.deviation


def test_an_exact_plan_has_no_deviation_and_no_passes_for_it(weights: Path) -> None:
    report = run(weights, DeletionCheck(grid=4, repeats=1))
    assert report.deviation is None
    assert b'"deviation"' not in report_bytes(report)
    assert b'"interpolated"' not in report_bytes(report)
    assert "deviation" not in report.cost.checks
    assert report.manifest.environment["precision"] == "float32"


def test_adaptive_areas_are_within_tolerance_for_a_third_of_the_passes(weights: Path) -> None:
    explainers = (IntegratedGradients(steps=8), GradCam())
    exact = run(weights, DeletionCheck(grid=GRID), explainers=explainers)
    fast = run(weights, DeletionCheck(grid=GRID, curve="adaptive"), explainers=explainers)
    paid = fast.cost.checks["deletion"].forward_images
    assert 3 * paid <= exact.cost.checks["deletion"].forward_images
    found, expected = by_key(fast), by_key(exact)
    assert found.keys() == expected.keys()
    for key in expected:
        if key[2] in {"lerf_auc", "morf_auc", "rao_auc"}:
            pairs = zip(found[key].per_image, expected[key].per_image, strict=True)
            # values are printed with five digits
            assert all(abs(one - other) <= 0.005 + 1e-5 for one, other in pairs if one is not None)

    deviation = deviation_of(fast)
    assert deviation.modes == ("adaptive curves of deletion (tolerance 0.005)",)
    assert deviation.sample_images == deviation_images(IMAGES) == 2
    stated = {(one.explainer, one.metric): one for one in deviation.stated}
    assert {metric for _, metric in stated} == {"lerf_auc", "morf_auc", "rao_auc", "inter_model_deletion", "srg"}
    curves = [one for (_, metric), one in stated.items() if metric.endswith("_auc")]
    assert all(0 < one.estimated <= one.tolerance == 0.005 for one in curves)
    single = [one for (_, metric), one in stated.items() if metric in {"lerf_auc", "morf_auc"}]
    # random curves are passed once for all explainers
    at_random = next(one for (_, metric), one in stated.items() if metric == "rao_auc")
    # and one pass is that of the image without information
    assert sum(one.steps_measured for one in single) + at_random.steps_measured + 1 >= paid
    assert all(one.steps == IMAGES * STEPS for one in single)
    # the sample of two is told apart by its passes and agrees with the exact audit
    sampled = exact.cost.checks["deletion"].forward_images * 2 / IMAGES
    assert fast.cost.checks["deviation"].forward_images == pytest.approx(sampled, rel=0.1)
    for one in deviation.metrics:
        key = (one.check, one.explainer, one.metric, one.variant)
        pairs = list(zip(found[key].per_image[:2], expected[key].per_image[:2], strict=True))
        differences = [abs(a - b) for a, b in pairs if a is not None and b is not None]
        assert one.n == len(differences)
        assert one.max_abs == pytest.approx(max(differences), abs=1e-5)


def test_interpolated_curves_are_marked(weights: Path) -> None:
    report = run(weights, DeletionCheck(grid=GRID, curve="adaptive"), DeletionCheck(name="exact", grid=GRID))
    for row in report.results:
        if row.curve is not None:
            assert row.curve.interpolated == (row.check == "deletion")


def test_games_may_be_adaptive_too(weights: Path) -> None:
    games = InsertionDeletionCheck(pixels_per_step=5, games=("deletion_zero", "insertion_blur"))
    exact = run(weights, games)
    fast = run(weights, games.model_copy(update={"curve": "adaptive"}))
    saved = (
        exact.cost.checks["insertion_deletion"].forward_images / fast.cost.checks["insertion_deletion"].forward_images
    )
    assert saved >= 3
    found, expected = by_key(fast), by_key(exact)
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        if key[2].endswith("_accuracy"):
            # whether the target is predicted is not known at the steps between
            assert row.n_not_applicable == 0
            assert found[key].n == 0
            continue
        for one, other in zip(found[key].per_image, row.per_image, strict=True):
            assert one is not None
            assert other is not None
            assert abs(one - other) <= 0.005 + 1e-5
    # the random control is stated as well
    assert {one.explainer for one in deviation_of(fast).stated} == {"gradient", "random"}


def test_a_very_small_tolerance_gives_the_exact_areas(weights: Path) -> None:
    exact = by_key(run(weights, DeletionCheck(grid=8, repeats=1)))
    fast = by_key(run(weights, DeletionCheck(grid=8, repeats=1, curve="adaptive", tolerance=1e-9)))
    for key, row in exact.items():
        assert fast[key].per_image == pytest.approx(row.per_image, abs=2e-5)


def test_shards_do_not_matter(weights: Path) -> None:
    check = DeletionCheck(grid=GRID, repeats=1, curve="adaptive")
    whole, parted = run(weights, check), run(weights, check, shard_images=2)
    assert deviation_of(whole).sample_images == deviation_of(parted).sample_images == 2
    for one, other in zip(deviation_of(whole).stated, deviation_of(parted).stated, strict=True):
        assert (one.steps, one.steps_measured) == (other.steps, other.steps_measured)
        assert one.estimated == pytest.approx(other.estimated, rel=1e-3)


def test_bf16_deviates_a_little_and_reports_how_much(weights: Path) -> None:
    explainers = (Gradient(), GradCam(), LrpEpsilonPlusFlat(), Iba(steps=2, samples=1), Random())
    exact = run(weights, EddaCheck(), explainers=explainers, target="top")
    fast = run(weights, EddaCheck(), explainers=explainers, target="top", speed=Speed(precision="bf16"))
    assert fast.manifest.environment["precision"] == "bfloat16 autocast"
    deviation = deviation_of(fast)
    assert deviation.modes == ("bf16 autocast",)
    assert deviation.sample_images == 2
    assert not deviation.stated
    found, expected = by_key(fast), by_key(exact)
    moved = []
    for one in deviation.metrics:
        key = (one.check, one.explainer, one.metric, one.variant)
        assert one.max_abs is not None
        moved.append(one.max_abs)
        reached = [
            abs(a - b) for a, b in zip(found[key].per_image[:2], expected[key].per_image[:2], strict=True) if a and b
        ]
        if one.metric == "sufficiency" and reached:
            assert one.max_abs == pytest.approx(max(reached), abs=2e-5)
    assert max(moved) > 0
    whole = [
        abs(a - b)
        for key, row in expected.items()
        if key[2] == "sufficiency"
        for a, b in zip(found[key].per_image, row.per_image, strict=True)
        if a is not None and b is not None
    ]
    assert sorted(whole)[len(whole) // 2] < 0.05


def test_the_deviation_is_shown(weights: Path) -> None:
    report = run(weights, DeletionCheck(grid=8, repeats=1, curve="adaptive"), speed=Speed(precision="bf16"))
    page = render_html(report)
    assert "Faster modes" in page
    assert "bf16 autocast, adaptive curves of deletion (tolerance 0.005)" in page
    assert "Deviation from exact float32" in page
    assert "Faster modes" not in render_html(run(weights, DeletionCheck(grid=4, repeats=1)))
    assert AuditReport.model_validate_json(report_bytes(report)) == report


def classifier_of(module: nn.Module) -> Classifier:
    preprocessing = Preprocessing(resize=16, crop=16, mean=(0.3, 0.3, 0.3), std=(0.4, 0.4, 0.4))
    return Classifier(module, preprocessing=preprocessing)


def small_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)
        )


def gradient_of(classifier: Classifier, pixels: Tensor) -> Tensor:
    leaf = classifier.normalize(pixels).detach().requires_grad_()
    with torch.enable_grad():
        logits = classifier.folded(leaf)
    return torch.autograd.grad(logits[:, 1].sum(), leaf)[0]


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.long)])
def test_compiled_passes_are_the_same_and_counted(precision: str) -> None:
    exact = classifier_of(small_network())
    fast = exact.at_speed(Speed.model_validate({"compile": True, "precision": precision}))
    assert exact.at_speed(Speed.model_validate({"compile": True, "precision": precision})) is fast
    assert fast.exact is exact is fast.at_speed(Speed())
    assert isinstance(fast.folded, Compiled)
    # as on an accelerator
    assert not fast.folded.gradients
    fast.folded.gradients = True
    tolerance = {"fp32": 1e-5, "bf16": 0.05}[precision]
    pixels = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for count in (7, 3, 1):
        before = exact.ledger.forward_images, exact.ledger.backward_images
        logits = fast.logits(pixels[:count])
        slope = gradient_of(fast, pixels[:count])
        assert exact.ledger.forward_images - before[0] == 2 * count
        assert exact.ledger.backward_images - before[1] == count
        assert logits.dtype == slope.dtype == torch.float32
        torch.testing.assert_close(logits, exact.logits(pixels[:count]), rtol=0, atol=tolerance)
        torch.testing.assert_close(slope, gradient_of(exact, pixels[:count]), rtol=0, atol=tolerance)
    assert fast.compilation_failure is None


def test_a_model_that_cannot_be_compiled_runs_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_graph: object, _examples: object) -> None:
        msg = "no compiler on this machine\nand more"
        raise RuntimeError(msg)

    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda forward: compile_with(forward, backend=broken))
    exact = classifier_of(small_network())
    fast = exact.at_speed(Speed(compile=True))
    assert fast.compilation_failure is None
    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fast.logits(pixels), exact.logits(pixels))
    assert fast.compilation_failure is not None
    assert "no compiler on this machine" in fast.compilation_failure
    assert "and more" not in fast.compilation_failure
    torch.testing.assert_close(gradient_of(fast, pixels), gradient_of(exact, pixels))


def test_running_out_of_memory_is_not_a_failure_to_compile() -> None:
    module = small_network()
    compiled = Compiled(module, gradients=True)
    full = torch.OutOfMemoryError("out of memory")

    def exhausted(_x: Tensor) -> Tensor:
        raise full

    # what torch.compile would have returned
    compiled._compiled = exhausted
    with pytest.raises(torch.OutOfMemoryError):
        compiled(torch.rand(2, 3, 16, 16))
    assert compiled.failure is None


def test_altered_copies_keep_the_precision_but_are_not_compiled() -> None:
    exact = classifier_of(small_network())
    fast = exact.at_speed(Speed(precision="bf16", compile=True))

    def forget(module: nn.Module) -> None:
        for parameter in module.parameters():
            parameter.zero_()

    altered = fast.altered(forget, digest="other")
    pixels = torch.rand(2, 3, 16, 16)
    before = exact.ledger.forward_images
    assert not altered.logits(pixels).any()
    assert exact.ledger.forward_images == before + 2
    assert fast.logits(pixels).any()
    assert altered.exact.logits(pixels).dtype == torch.float32
    assert altered.compilation_failure is None
    assert not isinstance(altered.folded, Compiled)
