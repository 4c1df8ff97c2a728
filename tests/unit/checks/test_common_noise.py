"""Sampling noise is not instability: copies draw the noise of their image, and another draw shows what noise does."""

from __future__ import annotations

from typing import Literal, get_args

import pytest

import digits
import reference
from auditcore.contracts.access import AccessRules
from auditcore.contracts.augmentations import Brightness
from auditcore.contracts.checks import Check, ComplexityCheck, SensitivityCheck, SweepCheck
from auditcore.contracts.explainers import (
    DeepLift,
    Explainer,
    Gradient,
    GradientShap,
    Iba,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    NoiseTunnel,
    Random,
    Rise,
    SmoothGrad,
    default_explainers,
)
from auditcore.contracts.models import DemoModel
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Measurement, ShardResult
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.explainers.registry import explain
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.random_numbers.streams import Streams
from auditcore_service.cli.demo import PHOTOS, photo_path
from every_explainer import with_the_others

IMAGES = 3
STOCHASTIC: tuple[Explainer, ...] = tuple(
    explainer
    for explainer in with_the_others(
        (
            SmoothGrad(samples=4),
            NoiseTunnel(method=InputXGradient(), aggregate="vargrad", samples=4),
            GradientShap(samples=4, std=0.1),
            IntegratedGradients(steps=4, baseline="uniform"),
            DeepLift(baseline="normal"),
            Iba(steps=12, samples=1),
            Rise(masks=20, cells=4),
            KernelShap(segments="cells", count=16, samples=40),
        )
    )
    if explainer.repeatable
)
TINY = Brightness(interval=(0, 1e-5))


def run(
    classifier: Classifier,
    explainers: tuple[Explainer, ...],
    *checks: Check,
    images: list[EncodedImage] | None = None,
    micro_batch: int = 4,
) -> ShardResult:
    plan = AuditPlan(seed=7, explainers=explainers, checks=checks)
    measured: list[ShardResult] = []
    for wave in ("measure", "compute"):
        measured.append(
            run_shard(
                ShardTask(
                    plan=plan,
                    wave=wave,  # type: ignore[arg-type]
                    images=images or digits.encoded(IMAGES),
                    shared=reduce_shared(plan, measured),
                ),
                Runtime(classifier, micro_batch=micro_batch, clock=lambda: 0.0),
            )
        )
    return measured[-1]


def values(result: ShardResult, metric: str, explainer: str) -> list[float]:
    (one,) = (m for m in result.measurements if (m.metric, m.explainer) == (metric, explainer))
    assert None not in one.values
    return [value for value in one.values if value is not None]


def last_points(result: ShardResult, explainer: str) -> list[float]:
    """Correlation at the upper end of the interval."""
    (one,) = (m for m in result.measurements if (m.metric, m.explainer) == ("pearson_score", explainer))
    assert one.curve is not None
    return [curve[-1] for curve in one.curve.values if curve is not None and curve[-1] is not None]


def test_every_contract_declares_whether_it_is_stochastic() -> None:
    kinds = {type(explainer) for explainer in (*STOCHASTIC, Random())}
    # kinds with required fields are code of others or files; their own tests say which of them draw random numbers
    for explainer in default_explainers():
        always = type(explainer) in kinds - {IntegratedGradients, DeepLift}
        assert explainer.stochastic is always, explainer
    for contract in (IntegratedGradients, DeepLift):
        found = {
            name
            for name in get_args(contract.model_fields["baseline"].annotation)
            if contract(baseline=name).stochastic
        }
        assert found == {"gaussian", "uniform", "normal"}


@pytest.mark.parametrize("explainer", STOCHASTIC, ids=lambda explainer: explainer.label)
def test_an_identity_change_has_no_effect_with_common_noise_and_a_large_one_with_fresh(
    digit_classifier: Classifier, explainer: Explainer
) -> None:
    noises: tuple[Literal["common", "fresh"], ...] = ("common", "fresh")
    results = {
        noise: run(
            digit_classifier,
            (explainer,),
            SweepCheck(augmentations=(TINY,), levels=2, noise=noise),
            SensitivityCheck(draws=2, radius=1e-6, noise=noise),
        )
        for noise in noises
    }
    assert min(last_points(results["common"], explainer.label)) > 0.999
    # with fresh noise a copy differs as another draw of the unchanged image does; how far belongs to the explainer
    assert min(last_points(results["fresh"], explainer.label)) < min(last_points(results["common"], explainer.label))
    common, fresh, repeated = (
        values(results[noise], metric, explainer.label)
        for noise, metric in (
            ("common", "max_sensitivity"), ("fresh", "max_sensitivity"), ("fresh", "repeatability_distance")
        )
    )  # fmt: skip
    for same, other, again in zip(common, fresh, repeated, strict=True):
        assert 20 * same < min(other, again)
    # what belongs to the unchanged images does not ask how copies draw
    for metric in ("repeatability", "repeatability_pearson", "repeatability_top_k", "repeatability_distance"):
        assert values(results["common"], metric, explainer.label) == values(results["fresh"], metric, explainer.label)


@pytest.mark.parametrize("noise", ["common", "fresh"])
def test_the_random_control_stays_unstable(digit_classifier: Classifier, noise: str) -> None:
    sweep = SweepCheck.model_validate({"augmentations": (TINY,), "levels": 3, "noise": noise})
    sensitivity = SensitivityCheck.model_validate({"draws": 2, "radius": 1e-6, "noise": noise})
    result = run(digit_classifier, (Gradient(),), sweep, sensitivity)
    assert max(abs(point) for point in last_points(result, "random")) < 0.2
    # the distance of two independent normal maps is the square root of 2
    assert values(result, "max_sensitivity", "random") == pytest.approx([2**0.5] * IMAGES, rel=0.1)


@pytest.mark.parametrize("explainer", STOCHASTIC, ids=lambda explainer: explainer.label)
def test_repeatability_is_the_correlation_of_two_draws_of_one_image_in_any_plan(
    digit_classifier: Classifier, explainer: Explainer
) -> None:
    plan = AuditPlan(seed=7, explainers=(explainer,), checks=(ComplexityCheck(),))
    images = digits.encoded(IMAGES)
    result = run(digit_classifier, (explainer,), ComplexityCheck())
    shared = {} if explainer.kind != "iba" else {explainer.shared_key: statistics_of(digit_classifier, plan, images)}
    for position, image in enumerate(images):
        pixels = (digits.digit_pixels()[0][position][None] * 255).round() / 255
        target = digit_classifier.logits(pixels).argmax(1)
        one, other = (
            explain(
                digit_classifier, explainer, pixels, target, Streams(7, (image.digest,)).viewing([view]), shared=shared
            )
            .maps[0].double().sum(0).flatten().tolist()
            for view in ("original", "repeatability")
        )  # fmt: skip
        expected = reference.pearson(one, other)
        assert values(result, "repeatability", explainer.label)[position] == pytest.approx(expected, abs=2e-4)


def statistics_of(classifier: Classifier, plan: AuditPlan, images: list[EncodedImage]) -> tuple[float, ...]:
    """The layer statistics of the plan's only explainer."""
    measured = run_shard(
        ShardTask(plan=plan, wave="measure", images=images),
        Runtime(classifier, micro_batch=4, clock=lambda: 0.0),
    )
    return reduce_shared(plan, [measured])[plan.explainers[0].shared_key]


def test_only_stochastic_explainers_are_repeated(digit_classifier: Classifier) -> None:
    explainers = (Gradient(), IntegratedGradients(steps=3), SmoothGrad(samples=3), Random())
    result = run(digit_classifier, explainers, SweepCheck(augmentations=(TINY,), levels=2), SensitivityCheck(draws=1))
    repeated: list[Measurement] = [m for m in result.measurements if m.metric.startswith("repeatability")]
    assert {m.explainer for m in repeated} == {"smoothgrad"}
    assert all(m.control for m in repeated)
    assert result.cost.checks["repeatability"].backward_images == IMAGES * 3
    deterministic = run(digit_classifier, explainers[:2], ComplexityCheck())
    assert "repeatability" not in deterministic.cost.checks


@pytest.mark.parametrize("micro_batch", [1, 7])
def test_neither_batches_nor_kept_numbers_change_a_score(
    digit_classifier: Classifier, micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainers = (SmoothGrad(samples=3), IntegratedGradients(steps=3, baseline="gaussian"), Rise(masks=20, cells=4))
    checks = (SweepCheck(augmentations=(Brightness(interval=(0, 0.2)),), levels=3), SensitivityCheck(draws=2))
    expected = run(digit_classifier, explainers, *checks)
    # room for a single map: nearly everything is drawn again
    monkeypatch.setattr("auditcore.random_numbers.streams.KeptDraws.__init__.__defaults__", (4 * 3 * 32 * 32,))
    other = run(digit_classifier, explainers, *checks, micro_batch=micro_batch)
    for one, another in zip(expected.measurements, other.measurements, strict=True):
        assert list(another.values) == pytest.approx(list(one.values), rel=2e-3, abs=1e-4), (one.explainer, one.metric)


@pytest.mark.long
@pytest.mark.slow
def test_with_the_same_noise_smoothgrad_is_steadier_than_the_gradient_on_a_photo() -> None:
    """With fresh noise it looks less steady than the gradient: 0.45 on this photo."""
    classifier = load_classifier(DemoModel(), access=AccessRules(), device="cpu")
    photo = EncodedImage(0, "photo", photo_path(*PHOTOS[0]).read_bytes())
    sweep = SweepCheck(augmentations=(Brightness(interval=(0, 0.1)),), levels=2)
    result = run(classifier, (Gradient(), SmoothGrad(samples=50)), sweep, images=[photo], micro_batch=8)
    (gradient,), (smoothgrad,) = (last_points(result, name) for name in ("gradient", "smoothgrad"))
    assert gradient == pytest.approx(0.65, abs=0.02)
    assert smoothgrad == pytest.approx(0.86, abs=0.02)
    (repeated,) = values(result, "repeatability", "smoothgrad")
    assert 0.35 < repeated < 0.6
