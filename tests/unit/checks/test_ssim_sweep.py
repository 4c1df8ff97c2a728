"""Structural similarity sweep: every number the slow way, what is accepted, the data range, what cannot be said."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

import digits
from auditcore.contracts.access import Limits
from auditcore.contracts.augmentations import (
    Brightness,
    Composition,
    GaussianBlur,
    GaussianNoise,
    Gmic,
    HorizontalFlip,
    JpegQuality,
    Rotate,
    Translate,
)
from auditcore.contracts.checks import Change, SsimSweepCheck, SweepCheck
from auditcore.contracts.estimate import passes_of, waves_of
from auditcore.contracts.explainers import Explainer, Gradient, GuidedBackpropagation, Iba, InputXGradient, Random
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Measurement, ShardResult, Wave
from auditcore.engine.shard import run_shard
from auditcore.engine.shared import reduce_shared
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from naive import NaiveAudit

IMAGES = 3
CHANGES = (
    Change(family=Rotate(), values=(-10.0, 6.0)),
    Change(family=GaussianNoise(), values=(0.02, 0.05)),
    Change(family=Gmic(filter="sharpen"), values=(0.4,)),
    Change(family=HorizontalFlip(), values=(1.0,)),
    Change(family=Composition(first=Brightness(), second=Translate()), values=(-0.2, 0.1)),
)
CHECK = SsimSweepCheck(changes=CHANGES, tolerance=0.2, window=7)


def shard(
    classifier: Classifier,
    plan: AuditPlan,
    images: Sequence[EncodedImage],
    wave: Wave,
    shared: Mapping[str, tuple[float, ...]],
    micro_batch: int | None = None,
) -> ShardResult:
    return run_shard(
        classifier=classifier,
        images=images,
        plan=plan,
        wave=wave,
        shared=shared,
        limits=Limits(),
        progress=lambda _share: None,
        clock=lambda: 0.0,
        micro_batch=micro_batch,
    )


def audit(
    classifier: Classifier,
    check: SsimSweepCheck,
    explainers: tuple[Explainer, ...],
    *,
    parts: Sequence[Sequence[EncodedImage]] = (),
    micro_batch: int | None = None,
) -> list[ShardResult]:
    """The compute shards of an audit whose first wave ran on the same shards."""
    plan = AuditPlan(seed=7, explainers=explainers, checks=(check,))
    parts = parts or [digits.encoded(IMAGES)]
    measured = [shard(classifier, plan, part, "measure", {}, micro_batch) for part in parts]
    shared = reduce_shared(plan, measured)
    return [shard(classifier, plan, part, "compute", shared, micro_batch) for part in parts]


def rows(result: ShardResult, explainer: str) -> dict[tuple[str, str | None], Measurement]:
    return {(m.metric, m.variant): m for m in result.measurements if m.explainer in {explainer, None}}


def numbers(results: Sequence[ShardResult]) -> dict[tuple[str | None, str, str | None], list[float | None]]:
    found: dict[tuple[str | None, str, str | None], list[float | None]] = {}
    for result in results:
        for m in result.measurements:
            found.setdefault((m.explainer, m.metric, m.variant), []).extend(m.values)
    return found


def naive(classifier: Classifier, image: EncodedImage) -> NaiveAudit:
    pixels, _ = digits.digit_pixels()
    quantized = np.round(pixels[image.index].numpy() * 255) / 255
    return NaiveAudit(classifier, quantized.astype(np.float32), 7, image.digest)


@pytest.mark.parametrize("explainer", [Gradient(), Random()], ids=lambda explainer: explainer.kind)
@pytest.mark.parametrize(("reduce", "border"), [("none", "exclude"), ("sum", "include")])
def test_every_number_is_that_of_one_image_and_one_change_at_a_time(
    digit_classifier: Classifier, explainer: Explainer, reduce: str, border: str
) -> None:
    check = SsimSweepCheck.model_validate(CHECK.model_dump() | {"reduce": reduce, "border": border})
    (result,) = audit(digit_classifier, check, (explainer,))
    found = rows(result, explainer.kind)
    slow = [naive(digit_classifier, image) for image in digits.encoded(IMAGES)]
    maps = [each._map(explainer, each.pixels, "original") for each in slow]
    if reduce == "sum":
        maps = [each.sum(axis=0) for each in maps]
    data_range = max(float(np.abs(each).max()) for each in maps)
    several = 0
    for position, each in enumerate(slow):
        expected = each.ssim_sweep(check, explainer, data_range)
        assert set(expected) == {key for key in found if key[0] != "conservation"}
        for key, value in expected.items():
            measured = found[key].values[position]
            if np.isnan(value):
                assert measured is None
                assert "no changed copy is accepted" in found[key].reasons[position]
            else:
                assert measured == pytest.approx(value, rel=2e-3, abs=2e-4), key
        several += 0 < expected["accepted_fraction", "all"] < 1
    # otherwise the rule of acceptance was not at stake
    assert several


def test_values_do_not_depend_on_batches_shards_or_other_explainers(digit_classifier: Classifier) -> None:
    check = CHECK.model_copy(update={"changes": (*CHANGES[:3], Change(family=JpegQuality(), values=(60.0,)))})
    whole = numbers(audit(digit_classifier, check, (Gradient(), Random()), micro_batch=7))
    images = digits.encoded(IMAGES)
    for micro_batch, parts in ((1, [images]), (3, [images]), (3, [images[:1], images[1:]])):
        other = numbers(audit(digit_classifier, check, (Random(), Gradient()), parts=parts, micro_batch=micro_batch))
        assert other.keys() == whole.keys()
        for key, values in whole.items():
            assert other[key] == [None if v is None else pytest.approx(v, rel=1e-4, abs=1e-6) for v in values], key
    alone = numbers(audit(digit_classifier, check, (Gradient(),), micro_batch=7))
    assert alone.keys() == whole.keys()
    for key, values in whole.items():
        assert alone[key] == [None if v is None else pytest.approx(v, rel=1e-6) for v in values], key
    again = audit(digit_classifier, check, (Gradient(), Random()), micro_batch=7)
    assert numbers(again) == whole


def test_one_data_range_serves_all_images_of_all_shards(digit_classifier: Classifier) -> None:
    images = digits.encoded(IMAGES)
    results = audit(digit_classifier, CHECK, (Gradient(), InputXGradient()), parts=[images[:1], images[1:]])
    ranges = {key[0]: values for key, values in numbers(results).items() if key[1] == "ssim_data_range"}
    assert set(ranges) == {"gradient", "input_x_gradient", "random"}
    slow = [naive(digit_classifier, image) for image in images]
    for explainer in (Gradient(), InputXGradient(), Random()):
        largest = [float(np.abs(each._map(explainer, each.pixels, "original")).max()) for each in slow]
        assert ranges[explainer.kind] == pytest.approx([max(largest)] * IMAGES, rel=1e-4)
        assert min(largest) < 0.999 * max(largest)
    told = [m for result in results for m in result.measurements if m.metric == "ssim_data_range"]
    assert all(m.control for m in told)


def test_the_random_control_runs_unasked_and_is_unlike_itself(digit_classifier: Classifier) -> None:
    (result,) = audit(digit_classifier, CHECK, (Gradient(),))
    control = rows(result, "random")["ssim", "all"]
    assert control.control
    assert all(value is not None and abs(value) < 0.1 for value in control.values)
    assert not rows(result, "gradient")["ssim", "all"].control
    (asked,) = audit(digit_classifier, CHECK, (Random(),))
    same = rows(asked, "random")["ssim", "all"]
    assert same.values == control.values
    assert not same.control


def test_no_map_is_computed_of_a_copy_that_is_not_accepted(digit_classifier: Classifier) -> None:
    check = SsimSweepCheck(changes=CHANGES, tolerance=1e-12)
    (result,) = audit(digit_classifier, check, (Gradient(),))
    found = rows(result, "gradient")
    assert found["accepted_fraction", "all"].values == (0.0,) * IMAGES
    for variant in ("all", *(change.family.label for change in CHANGES)):
        assert found["ssim", variant].values == (None,) * IMAGES
        assert "no changed copy is accepted" in found["ssim", variant].reasons[0]
        assert "1e-12" in found["ssim", variant].reasons[0]
    copies = sum(len(change.values) for change in CHANGES)
    cost = result.cost.checks[check.label]
    assert (cost.forward_images, cost.backward_images) == (copies * IMAGES, 0)
    (accepted,) = audit(digit_classifier, SsimSweepCheck(changes=CHANGES, tolerance=1.0), (Gradient(),))
    cost = accepted.cost.checks[check.label]
    assert (cost.forward_images, cost.backward_images) == (2 * copies * IMAGES, copies * IMAGES)


def test_the_estimate_is_what_a_sweep_costs_at_most(digit_classifier: Classifier) -> None:
    plan = AuditPlan(explainers=(Gradient(),), checks=(CHECK.model_copy(update={"tolerance": 1.0}),))
    assert waves_of(plan) == ("measure", "compute")
    assert waves_of(AuditPlan(explainers=(Gradient(),), checks=(SweepCheck(families=(HorizontalFlip(),)),))) == (
        "compute",
    )
    blur = SweepCheck(families=(GaussianBlur(), HorizontalFlip(), Rotate(interval=(-5, 5))), levels=3)
    for checks in (plan.checks, (blur,)):
        plan = AuditPlan(explainers=(Gradient(),), checks=checks)
        shared: dict[str, tuple[float, ...]] = {}
        measured = []
        for wave in waves_of(plan):
            result = shard(digit_classifier, plan, digits.encoded(2), wave, shared)
            measured.append(result)
            shared = reduce_shared(plan, measured)
            paid = result.cost.forward_images + 1.3 * result.cost.backward_images
            assert paid == pytest.approx(2 * passes_of(plan, wave=wave), abs=2)


def test_a_sweep_without_any_relevance_has_no_range(digit_classifier: Classifier) -> None:
    plan = AuditPlan(seed=7, explainers=(Gradient(),), checks=(CHECK,))
    shared = {"ssim_sweep.gradient.data_range": (0.0,), "ssim_sweep.random.data_range": (3.0,)}
    found = rows(shard(digit_classifier, plan, digits.encoded(2), "compute", shared), "gradient")
    assert found["ssim", "all"].values == (None, None)
    fractions = found["accepted_fraction", "all"].values
    # of one image at least some copies are accepted, not all
    assert any(fraction is not None and 0 < fraction < 1 for fraction in fractions)
    assert all("no data range" in found["ssim", "all"].reasons[position] for position in range(2))


def test_a_window_larger_than_what_is_left_of_the_image_is_not_applicable(digit_classifier: Classifier) -> None:
    check = SsimSweepCheck(changes=(Change(family=Translate(), values=(0.8,)),), tolerance=1.0)
    (result,) = audit(digit_classifier, check, (Gradient(),))
    found = rows(result, "gradient")
    assert found["accepted_fraction", "translate"].values == (1.0,) * IMAGES
    assert found["ssim", "translate"].values == (None,) * IMAGES
    assert "no window of SSIM" in found["ssim", "translate"].reasons[0]


def test_without_gmic_its_family_is_not_applicable_and_the_rest_goes_on(
    digit_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gmic", None)
    (result,) = audit(digit_classifier, CHECK, (Gradient(),))
    found = rows(result, "gradient")
    for metric in ("ssim", "accepted_fraction"):
        missing = found[metric, "gmic_sharpen"]
        assert missing.values == (None,) * IMAGES
        assert "auditcore[gmic]" in missing.reasons[0]
    monkeypatch.undo()
    rest = CHECK.model_copy(update={"changes": tuple(c for c in CHANGES if c.family.kind != "gmic")})
    (without,) = audit(digit_classifier, rest, (Gradient(),))
    for metric in ("ssim", "accepted_fraction"):
        assert found[metric, "all"].values == rows(without, "gradient")[metric, "all"].values


def test_without_gmic_a_sweep_goes_on_too(digit_classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gmic", None)
    automatic = Gmic(filter="sharpen", interval="auto")
    sweep = SweepCheck(families=(automatic, Rotate(interval=(-5, 5))), levels=2)
    plan = AuditPlan(explainers=(Gradient(),), checks=(sweep,))
    images = digits.encoded(1)
    shared = reduce_shared(plan, [shard(digit_classifier, plan, images, "measure", {})])
    assert shared == {}
    result = shard(digit_classifier, plan, images, "compute", shared)
    for explainer in ("gradient", "random"):
        found = rows(result, explainer)
        for metric in ("pearson_score", "top_k_score", "s_pearson", "s_top_k", "probability_score"):
            assert "auditcore[gmic]" in found[metric, "gmic_sharpen"].reasons[0]
            assert found[metric, "rotate"].values[0] is not None


def test_explainers_that_cannot_say_are_not_applicable(untrained_linear: Classifier) -> None:
    (result,) = audit(untrained_linear, CHECK, (GuidedBackpropagation(), Gradient()))
    missing = rows(result, "guided_backpropagation")["ssim", "rotate"]
    assert missing.values == (None,) * IMAGES
    assert missing.reasons[0] == result.not_applicable["guided_backpropagation"]


def test_an_explainer_that_itself_needs_the_first_wave_is_not_applicable(digit_classifier: Classifier) -> None:
    (result,) = audit(digit_classifier, CHECK, (Iba(steps=1, samples=1), Gradient()))
    missing = rows(result, "iba")["ssim", "all"]
    assert missing.values == (None,) * IMAGES
    assert "first wave" in missing.reasons[0]
    assert rows(result, "gradient")["ssim", "all"].values[0] is not None


@pytest.fixture(scope="module")
def untrained_linear() -> Classifier:
    """A model without any rectifier."""
    from torch import nn  # noqa: PLC0415 - only here

    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Sigmoid(), nn.Flatten(), nn.Linear(4 * 15 * 15, 10))
    return Classifier(model, preprocessing=digits.PREPROCESSING)


def test_a_sweep_counts_a_flip_where_the_target_itself_is_no_longer_predicted() -> None:
    # of a multi-label model several classes are predicted at once, and a row asks about its own
    multi = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING, scores="sigmoid")
    family = Rotate(interval=(-40, 40))
    plan = AuditPlan(
        seed=7, target="top", top_n=2, explainers=(Random(),), checks=(SweepCheck(families=(family,), levels=3),)
    )
    result = shard(multi, plan, digits.encoded(8), "compute", {})
    (flips,) = (m for m in result.measurements if m.metric == "prediction_flip_rate")
    (kept,) = (m for m in result.measurements if m.metric == "probability_score")
    assert kept.curve is not None
    assert flips.per_target is not None
    # argmax would call the second class flipped on every copy but those where it wins
    assert any(second == 0 for _, second in flips.per_target)
    for position, record in enumerate(result.images):
        for target, rate in zip(record.targets, flips.per_target[position], strict=True):
            slow = naive(multi, digits.encoded(8)[position])
            logits = [slow._logits(slow._changed(family, slow.pixels, value))[target.target] for value in (-40, 40)]
            assert rate == np.mean([logit < 0 for logit in logits])
