"""What an audit promises as a whole, on a small trained classifier, in process."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import digits
from auditcore.auditing import audit
from auditcore.contracts.augmentations import Brightness, Rotate
from auditcore.contracts.checks import DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.explainers import (
    Deconvolution,
    Explainer,
    GradCam,
    Gradient,
    GuidedBackpropagation,
    InputXGradient,
    IntegratedGradients,
    LrpEpsilonPlusFlat,
    Random,
    SmoothGrad,
)
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport, Result
from auditcore.contracts.request import AuditRequest
from auditcore.engine.calibration import starting_size
from auditcore.errors import (
    AuditCancelled,
    InvalidRequest,
    LabelOutOfRange,
    ModelOutputInvalid,
    NonFiniteWeights,
    NoUsableImages,
)
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.registry import EXPLAINERS as EXPLAINER_METHODS
from auditcore.explainers.registry import Method
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.report.gate import reevaluate
from auditcore.report.serialize import report_bytes

EXPLAINERS: tuple[Explainer, ...] = (
    Gradient(),
    InputXGradient(),
    IntegratedGradients(steps=4),
    SmoothGrad(samples=3),
    GuidedBackpropagation(),
    Deconvolution(),
    GradCam(),
    LrpEpsilonPlusFlat(),
    Random(),
)
CHECKS = (
    SweepCheck(augmentations=(Brightness(), Rotate(interval=(-20, 20))), levels=3, top_k=100),
    DeletionCheck(grid=4, repeats=2),
    EddaCheck(keep=(0.15,)),
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.write_weights(tmp_path_factory.mktemp("weights"))


Run = Callable[..., AuditReport]


@pytest.fixture(scope="module")
def run(weights: Path) -> Run:
    def run(
        images: list[EncodedImage],
        *,
        explainers: tuple[Explainer, ...] = EXPLAINERS,
        checks: tuple[Any, ...] = CHECKS,
        policy: tuple[Condition, ...] = (),
        plan: dict[str, Any] | None = None,
        **options: Any,
    ) -> AuditReport:
        request = AuditRequest(
            model=digits.reference(weights),
            images=ImageBatchReference(digest="sha256:" + "0" * 64),
            plan=AuditPlan.model_validate({"seed": 7, "explainers": explainers, "checks": checks} | (plan or {})),
            policy=policy,
        )
        # a size measured on a busy machine may be another the next time, and sizes differ by rounding
        options.setdefault("micro_batch", 8)
        return audit(request, images=images, access=digits.access(weights.parent), audit_id="test", **options)

    return run


@pytest.fixture(scope="module")
def report(run: Run) -> AuditReport:
    return run(digits.encoded(5))


def by_key(report: AuditReport) -> dict[tuple[str, str | None, str, str | None], Result]:
    return {(r.check, r.explainer, r.metric, r.variant): r for r in (*report.results, *report.controls)}


def assert_same_numbers(one: AuditReport, other: AuditReport) -> None:
    expected = by_key(one)
    for key, result in by_key(other).items():
        assert len(result.per_image) == len(expected[key].per_image)
        for a, b in zip(result.per_image, expected[key].per_image, strict=True):
            assert (a is None) == (b is None), key
            if a is not None and b is not None:
                assert a == pytest.approx(b, rel=2e-3, abs=2e-4), key


# --- scores belong to the image -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"micro_batch": 1}, {"micro_batch": 7}, {"shard_images": 2}])
def test_scores_do_not_depend_on_batches_or_shards(run: Run, report: AuditReport, options: dict[str, int]) -> None:
    assert_same_numbers(report, run(digits.encoded(5), **options))


def test_scores_do_not_depend_on_the_other_explainers(run: Run, report: AuditReport) -> None:
    for explainer in (Random(), SmoothGrad(samples=3), GradCam()):
        assert_same_numbers(report, run(digits.encoded(5), explainers=(explainer,)))


def test_same_seed_gives_the_same_bytes_apart_from_timings(run: Run, report: AuditReport) -> None:
    def bytes_of(one: AuditReport) -> bytes:
        cost = one.cost.model_copy(update={"seconds": 0.0, "peak_memory_bytes": 0})
        return report_bytes(one.model_copy(update={"cost": cost}))

    assert bytes_of(run(digits.encoded(5))) == bytes_of(report)


def test_another_seed_changes_only_what_is_random(run: Run, report: AuditReport) -> None:
    other = by_key(run(digits.encoded(5), plan={"seed": 8}))
    key = ("sweep", "gradient", "pearson_score", "rotate")
    assert other[key].per_image == by_key(report)[key].per_image
    key = ("deletion", "gradient", "rao_auc", None)
    assert other[key].per_image != by_key(report)[key].per_image


# --- the report -----------------------------------------------------------------------------------


def test_report_is_strict_json_of_its_schema(report: AuditReport) -> None:
    data = report_bytes(report)
    assert AuditReport.model_validate_json(data) == report
    for token in (b"NaN", b"Infinity"):
        assert token not in data
    parsed = json.loads(data)
    assert parsed["verdict"] == "not_evaluated"
    assert parsed["plan"]["checks"][0]["top_k"] == 100
    assert parsed["images"]["used"] == parsed["images"]["count"] == 5


def test_summary_can_be_recomputed_from_per_image_values(report: AuditReport) -> None:
    for result in report.results:
        values = torch.tensor([v for v in result.per_image if v is not None], dtype=torch.float64)
        assert result.n == len(values)
        assert result.n_not_applicable == len(result.per_image) - len(values) == len(result.reasons)
        if result.n > 1:
            assert result.mean == pytest.approx(values.mean().item(), rel=1e-5, abs=1e-9)
            assert result.sem == pytest.approx(values.std().item() / len(values) ** 0.5, rel=1e-5, abs=1e-9)
            assert (result.ci is None) == (result.ci_reason is not None)
            # equal values of a ratio have no interval
            assert result.ci is not None or result.std == 0
            assert result.ci is None or result.ci[0] < result.ci[1]


def test_random_order_is_shared_by_all_explainers(report: AuditReport) -> None:
    orders = {r.per_image for r in report.results if r.metric == "rao_auc"}
    assert len(orders) == 1


def test_controls_are_in_every_report(report: AuditReport) -> None:
    found = {(r.metric, r.explainer) for r in report.controls}
    assert ("completeness_error", "integrated_gradients") in found
    assert ("conservation", "lrp_epsilon_plus_flat") in found
    assert ("interpolation_ceiling", "gradient") in found
    assert ("top_k_chance", "gradient") in found
    assert ("sufficiency", "random") in found


def test_automatic_interval_is_reported(report: AuditReport) -> None:
    (interval,) = report.intervals
    assert (interval.check, interval.augmentation) == ("sweep", "brightness")
    low, high = interval.interval
    assert low == pytest.approx(-high)
    assert 0 < high <= 100 / 255 + 1e-9
    curve = by_key(report)["sweep", None, "probability_score", "brightness"].curve
    assert curve is not None
    assert (curve.x[0], curve.x[-1]) == pytest.approx((low, high))


def test_passes_are_counted(run: Run) -> None:
    cost = run(digits.encoded(4), explainers=(Gradient(),), checks=(DeletionCheck(grid=4, repeats=2),)).cost
    # the prediction is the pass of which the gradient comes back
    gradient, steps, emptied = 4, 4 * 15 * (2 + 2), 1
    assert cost.forward_images == gradient + steps + emptied
    assert cost.backward_images == gradient
    shards = run(
        digits.encoded(4), explainers=(Gradient(),), checks=(DeletionCheck(grid=4, repeats=2),), shard_images=2
    ).cost
    assert shards.forward_images == cost.forward_images + emptied
    assert shards.backward_images == gradient


def test_progress_grows_to_one(run: Run) -> None:
    seen: list[float] = []
    run(digits.encoded(3), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 10


def test_progress_never_exceeds_one_where_the_estimate_falls_short(run: Run) -> None:
    seen: list[float] = []
    run(digits.encoded(3), explainers=(Gradient(),), checks=(EddaCheck(keep=(0.15,)),), progress=seen.append)
    assert 0 < min(seen) < max(seen) == 1.0


@pytest.mark.parametrize(
    ("checks", "calls"),
    [
        # maps of the originals; a call for every copy of the curves
        ((DeletionCheck(grid=3, repeats=1),), 2 + 2 * (3 * 8)),
        # one pass for probability and map of every copy
        ((SweepCheck(augmentations=(Rotate(interval=(-9, 9)),), levels=5),), 2 + 2 * 4),
    ],
)
def test_progress_is_reported_between_all_micro_batches(run: Run, checks: tuple[Any, ...], calls: int) -> None:
    seen: list[float] = []
    run(digits.encoded(2), explainers=(Gradient(),), checks=checks, progress=seen.append, micro_batch=1)
    assert len(seen) >= calls


@pytest.mark.parametrize(("side", "images"), [(32, 392), (224, 8), (448, 2), (1024, 1)])
def test_micro_batches_shrink_as_images_grow(digit_classifier: Classifier, side: int, images: int) -> None:
    classifier = copy.copy(digit_classifier)
    classifier.shape = InputShape(3, side, side)
    assert starting_size(classifier) == images


def test_the_report_names_the_probability_of_every_original(run: Run, digit_classifier: Classifier) -> None:
    found = run(digits.encoded(3), explainers=(GradCam(),), checks=(EddaCheck(keep=(0.15,)),)).images.items
    pixels = (digits.digit_pixels()[0][:3] * 255).round() / 255
    expected = digit_classifier.probabilities(digit_classifier.logits(pixels)).max(dim=1)
    assert [item.target for item in found] == expected.indices.tolist()
    assert [item.probability for item in found] == pytest.approx(expected.values.tolist(), rel=1e-4)


def test_the_random_explainer_is_a_control_and_nothing_else(report: AuditReport) -> None:
    assert not [row for row in report.results if row.explainer == "random"]
    by_check = {row.check for row in report.controls if row.explainer == "random"}
    assert by_check == {"sweep", "deletion", "edda", "explainer"}
    others = {row.metric for row in report.controls if row.explainer != "random"}
    assert others == {
        "interpolation_ceiling", "top_k_chance", "completeness_error", "conservation", "image_dependence",
        "repeatability", "repeatability_pearson", "repeatability_top_k",
    }  # fmt: skip


def test_cancellation_stops_between_micro_batches(run: Run) -> None:
    calls = 0

    def cancel(_share: float) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise AuditCancelled

    with pytest.raises(AuditCancelled):
        run(digits.encoded(3), progress=cancel)
    assert calls == 3


# --- policy ---------------------------------------------------------------------------------------


def condition(**changes: Any) -> Condition:
    """A condition that the audit of two digits below meets, and a random order of cells does not."""
    base = {
        "check": "deletion",
        "explainer": "input_x_gradient",
        "metric": "srg",
        "at_least": 0.1,
        "statistic": "mean",
        "min_images": 2,
    }
    return Condition.model_validate({k: v for k, v in (base | changes).items() if v is not None})


@pytest.fixture(scope="module")
def of_two(run: Run) -> AuditReport:
    return run(
        digits.encoded(2),
        explainers=(InputXGradient(),),
        checks=(DeletionCheck(grid=2, repeats=1),),
        policy=(condition(),),
    )


MISSED = {"at_least": 0.9}
MORF = {"metric": "morf_auc", "at_least": None}


@pytest.mark.parametrize(
    ("conditions", "verdict"),
    [
        ((condition(),), "pass"),
        ((condition(), condition(**MISSED)), "fail"),
        ((condition(), condition(**MISSED, severity="warn")), "warn"),
        ((condition(**MISSED, severity="warn"), condition(**MISSED)), "fail"),
        ((condition(**MORF, at_most=0.3),), "pass"),
        ((condition(**MORF, at_most=0.05),), "fail"),
        ((condition(min_images=3),), "inconclusive"),
        ((condition(min_images=3), condition(**MISSED)), "fail"),
        ((condition(), condition(min_images=3, severity="warn")), "warn"),
        # by themselves, these show nothing
        ((condition(min_images=3, severity="warn"),), "inconclusive"),
        ((condition(metric="lerf_auc"),), "inconclusive"),
        ((), "not_evaluated"),
    ],
)
def test_verdict_follows_the_conditions(of_two: AuditReport, conditions: tuple[Condition, ...], verdict: str) -> None:
    found = reevaluate(of_two, conditions)
    assert found.verdict == verdict
    assert found.statistics.evaluated == len(conditions) == len(found.conditions)


def test_an_audit_judges_its_own_policy(of_two: AuditReport) -> None:
    assert (of_two.verdict, of_two.verdict_reason) == ("pass", "1 of 1 condition passed.")
    assert reevaluate(of_two, (condition(),)) == of_two


def test_condition_without_any_value_leaves_the_audit_inconclusive(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    _flatten_maps(monkeypatch)
    found = run(
        digits.encoded(2),
        explainers=(InputXGradient(),),
        checks=(DeletionCheck(grid=2, repeats=1),),
        policy=(condition(),),
    )
    assert found.verdict == "inconclusive"
    assert found.conditions[0].status == "not_applicable"
    assert "equally relevant" in found.conditions[0].message


# --- undefined values -----------------------------------------------------------------------------


def _flatten_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model constant, so that every gradient is 0."""
    monkeypatch.setattr(digits.DigitNet, "forward", _constant_forward)


def _constant_forward(self: digits.DigitNet, x: Tensor) -> Tensor:
    return self.head(torch.zeros(len(x), 64)) + 0 * x.flatten(1)[:, :1]


def test_constant_map_gives_null_with_a_reason(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    _flatten_maps(monkeypatch)
    found = run(digits.encoded(2), explainers=(Gradient(),), checks=CHECKS)
    for result in found.results:
        if result.explainer == "gradient" and result.metric != "rao_auc":
            assert result.per_image == (None, None), result.metric
            assert result.mean is None
            assert result.n == 0
            assert result.n_not_applicable == 2
            assert set(result.reasons) == {0, 1}
            assert all("constant" in why or "zero" in why or "equally" in why for why in result.reasons.values())
            assert result.curve is None or set(result.curve.mean) == {None}
    assert b"NaN" not in report_bytes(found)


@pytest.mark.parametrize("spoiled", [torch.nan, torch.inf])
def test_map_that_is_not_finite_gives_null_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, run: Run, spoiled: float
) -> None:
    def attribute(batch: Batch, _contract: Gradient) -> Attribution:
        maps = torch.randn(len(batch), 3, 32, 32, generator=torch.Generator().manual_seed(0))
        maps[:, 1, 4, 4] = spoiled
        return Attribution(maps)

    monkeypatch.setitem(EXPLAINER_METHODS, Gradient, Method(attribute))
    for result in run(digits.encoded(2), explainers=(Gradient(),), checks=CHECKS).results:
        if result.explainer == "gradient" and result.metric != "rao_auc":
            assert result.per_image == (None, None), result.metric
            assert all("not finite" in why for why in result.reasons.values())


def test_reasons_name_the_index_of_the_image(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    _flatten_maps(monkeypatch)
    images = [EncodedImage(0, None, b"junk"), *digits.encoded(3)[1:]]
    found = run(images, explainers=(Gradient(),), checks=(DeletionCheck(grid=4, repeats=1), EddaCheck(keep=(0.15,))))
    reasons = [r.reasons for r in found.results if r.explainer == "gradient" and r.metric != "rao_auc"]
    assert reasons
    assert all(set(by_index) == {1, 2} for by_index in reasons)


class SiluNet(nn.Module):
    """No rectifier anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, stride=4)
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.silu(self.convolution(x)).mean((2, 3)))


def test_explainer_that_cannot_be_right_is_reported_and_the_audit_goes_on(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr("auditcore.auditing.load_classifier", lambda *_a, **_k: _classifier(SiluNet()))
    found = run(digits.encoded(2), explainers=(Gradient(), GuidedBackpropagation()), checks=CHECKS)
    assert set(found.not_applicable) == {"guided_backpropagation"}
    assert "rectifier" in found.not_applicable["guided_backpropagation"]
    by_explainer = [(r.explainer, r.n) for r in found.results if r.explainer is not None]
    assert {n for label, n in by_explainer if label == "guided_backpropagation"} == {0}
    assert {n for label, n in by_explainer if label == "gradient"} == {2}
    kinds = {label: {(r.check, r.metric, r.variant) for r in found.results if r.explainer == label}
             for label in ("gradient", "guided_backpropagation")}  # fmt: skip
    assert kinds["gradient"] == kinds["guided_backpropagation"]


def _classifier(module: nn.Module) -> Classifier:
    return Classifier(module, preprocessing=digits.PREPROCESSING)


# --- bad input ------------------------------------------------------------------------------------


def test_one_bad_image_is_excluded_and_the_audit_goes_on(run: Run, report: AuditReport) -> None:
    images = digits.encoded(5)
    spoiled = [*images[:2], EncodedImage(2, "notes.txt", b"not an image"), *images[3:]]
    found = run(spoiled)
    (excluded,) = found.images.excluded
    assert (excluded.index, excluded.name, excluded.code) == (2, "notes.txt", "undecodable_image")
    assert [item.index for item in found.images.items] == [0, 1, 3, 4]
    key = ("edda", "gradient", "sufficiency", "top_15")
    expected = [v for i, v in enumerate(by_key(report)[key].per_image) if i != 2]
    assert list(by_key(found)[key].per_image) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_all_images_bad_fails_the_audit(run: Run) -> None:
    with pytest.raises(NoUsableImages, match="none of the 2 images"):
        run([EncodedImage(i, None, b"junk") for i in range(2)])


def test_label_out_of_range_is_named(run: Run) -> None:
    images = [EncodedImage(0, None, digits.png(0), 3), EncodedImage(1, None, digits.png(1), 10)]
    with pytest.raises(LabelOutOfRange, match="use 0 to 9") as caught:
        run(images)
    assert caught.value.field == "images.labels.1"


def test_given_labels_are_explained_with_target_label(run: Run) -> None:
    images = [
        EncodedImage(0, None, digits.png(0)),
        EncodedImage(1, None, digits.png(1), 3),
        EncodedImage(2, None, b"junk", 4),
        EncodedImage(3, None, digits.png(3), 5),
    ]
    found = run(images, explainers=(Gradient(),), checks=(EddaCheck(keep=(0.15,)),), plan={"target": "label"})
    assert [(item.index, item.target, item.label) for item in found.images.items] == [(1, 3, 3), (3, 5, 5)]
    assert [item.digest for item in found.images.items] == [images[1].digest, images[3].digest]
    assert [(each.index, each.code) for each in found.images.excluded] == [
        (0, "label_missing"),
        (2, "undecodable_image"),
    ]
    assert found.images.excluded[0].digest == images[0].digest
    listed = "".join(f"{image.digest}\n" for image in images)
    assert found.images.digest == f"sha256:{hashlib.sha256(listed.encode()).hexdigest()}"


class Misshapen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(3)


class Nan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([float("nan")]))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) * self.weight


class InfiniteOutput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) / 0


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (Misshapen(), ModelOutputInvalid, r"\(N, classes\)"),
        (nn.Flatten(0), ModelOutputInvalid, r"\(N, classes\)"),
        (nn.LSTM(32, 4), ModelOutputInvalid, "cannot process|one tensor"),
        (Nan(), NonFiniteWeights, "NaN or infinite"),
        (InfiniteOutput(), ModelOutputInvalid, "NaN or infinite logits"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_model_that_cannot_be_audited_is_refused(module: nn.Module, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _classifier(module)


def test_grid_finer_than_the_image_is_refused(run: Run) -> None:
    with pytest.raises(InvalidRequest, match="use at most 32"):
        run(digits.encoded(1), checks=(DeletionCheck(grid=64),))


def test_stored_batch_needs_images(weights: Path) -> None:
    request = AuditRequest(
        model=digits.reference(weights),
        images=ImageBatchReference(digest="sha256:" + "0" * 64),
        plan={"preset": "quick"},
    )
    with pytest.raises(InvalidRequest, match="stored batch"):
        audit(request, access=digits.access(weights.parent))


def test_report_cannot_be_built_with_nan(report: AuditReport) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Result.model_validate(report.results[0].model_dump() | {"mean": float("nan")})
