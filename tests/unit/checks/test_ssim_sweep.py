"""Structural similarity sweep: every number the slow way, what is accepted, the data range, what cannot be said."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

import digits
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
from auditcore.contracts.checks import Change, SsimSweepCheck, SweepCheck, change_variants
from auditcore.contracts.explainers import (
    Explainer,
    Gradient,
    GuidedBackpropagation,
    Iba,
    InputXGradient,
    Random,
    SmoothGrad,
)
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Measurement, ShardResult, Wave
from auditcore.costs.estimate import passes_of, waves_of
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.report.pooling import pooled_statistics
from naive import NaiveAudit

IMAGES = 3
CHANGES = (
    Change(augmentation=Rotate(), values=(-10.0, 6.0)),
    Change(augmentation=GaussianNoise(), values=(0.02, 0.05)),
    Change(augmentation=Gmic(filter="sharpen"), values=(0.4,)),
    Change(augmentation=HorizontalFlip(), values=(1.0,)),
    Change(augmentation=Composition(first=Brightness(), second=Translate()), values=(-0.2, 0.1)),
    Change(augmentation=Composition(first=Translate(), second=Brightness()), values=(0.05,)),
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
        ShardTask(plan=plan, wave=wave, images=images, shared=shared),
        Runtime(classifier, micro_batch=micro_batch, clock=lambda: 0.0),
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


@pytest.mark.parametrize("explainer", [Gradient(), SmoothGrad(samples=3), Random()], ids=lambda each: each.kind)
@pytest.mark.parametrize(
    ("reduce", "border", "noise"),
    [("none", "exclude", "common"), ("sum", "include", "common"), ("sum", "include", "fresh")],
)
def test_every_number_is_that_of_one_image_and_one_change_at_a_time(
    digit_classifier: Classifier, explainer: Explainer, reduce: str, border: str, noise: str
) -> None:
    check = SsimSweepCheck.model_validate(CHECK.model_dump() | {"reduce": reduce, "border": border, "noise": noise})
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
        assert set(expected) == {key for key in found if key[0] != "repeatability"}
        for key, value in expected.items():
            measured = found[key].values[position]
            if np.isnan(value):
                assert measured is None
                why = "a changed copy is not accepted" if key[1] == "all_valid" else "no changed copy is accepted"
                assert why in found[key].reasons[position]
            else:
                assert measured == pytest.approx(value, rel=2e-3, abs=2e-4), key
        several += 0 < expected["accepted_fraction", "all"] < 1
    # otherwise the rule of acceptance was not at stake
    assert several


def test_sub_cases_are_all_changes_kinds_augmentations_and_single_values() -> None:
    assert list(change_variants(SsimSweepCheck())) == [
        *("all", "all_valid", "gmic", "rotate"),
        *("gmic_freaky_details", "gmic_normalize_local", "gmic_boost_chroma", "gmic_mighty_details", "gmic_sharpen"),
        *("rotate=-30", "rotate=-15", "rotate=15", "rotate=30"),
    ]
    joined = {variant: [one.variant for one in members] for variant, members in change_variants(CHECK).items()}
    assert joined["composition"] == [
        *("brightness+translate=-0.2", "brightness+translate=0.1", "translate+brightness"),
    ]
    assert joined["all"] == joined["all_valid"]
    assert len(joined["all"]) == sum(len(change.values) for change in CHANGES)
    (single,) = (SsimSweepCheck(changes=(Change(augmentation=Rotate(), values=(5.0,)),)),)
    assert list(change_variants(single)) == ["all", "rotate"]


def test_every_image_counts_once_and_every_pair_once(digit_classifier: Classifier) -> None:
    check = SsimSweepCheck(changes=(CHANGES[0], *CHANGES[4:]), tolerance=0.05, window=7)
    plan = AuditPlan(seed=7, target="top", top_n=2, explainers=(Gradient(), InputXGradient()), checks=(check,))
    images = digits.encoded(12)
    measured = shard(digit_classifier, plan, images, "measure", {})
    result = shard(digit_classifier, plan, images, "compute", reduce_shared(plan, [measured]))
    found = {(m.explainer, m.metric, m.variant): m for m in result.measurements}
    pooled = pooled_statistics(plan, result.measurements)
    joint = [variant for variant, members in change_variants(check).items() if len(members) > 1]
    assert set(joint) == {"all", "all_valid", "composition", "rotate", "brightness+translate"}
    for explainer in ("gradient", "input_x_gradient", "random"):
        assert {key[3] for key in pooled if key[1] == explainer} == set(joint)
        for variant in joint:
            pairs, means = [], []
            for position in range(len(images)):
                own_means = []
                for target in range(2):
                    singles = [
                        found[explainer, "ssim", one.variant].per_target[position][target]  # type: ignore[index]
                        for one in change_variants(check)[variant]
                    ]
                    if variant == "all_valid" and None in singles:
                        continue
                    present = [value for value in singles if value is not None]
                    pairs += present
                    own_means += [np.mean(present)] if present else []
                means.append(np.mean(own_means) if own_means else None)
            row = found[explainer, "ssim", variant]
            assert row.values == tuple(
                None if mean is None else pytest.approx(mean, rel=1e-4, abs=1e-6) for mean in means
            )
            statistics = pooled["ssim_sweep", explainer, "ssim", variant]
            assert statistics.n == len(pairs)
            assert statistics.mean == pytest.approx(np.mean(pairs), rel=1e-6)
            assert statistics.std == pytest.approx(np.std(pairs, ddof=1), rel=1e-6)
        valid = found[None, "accepted_fraction", "all_valid"].values
        assert 0 < sum(value == 1 for value in valid) < sum(value != 0 for value in valid) < len(valid)
        # images differ in how many changes they accept, so that the two means are two numbers
        every = found[explainer, "ssim", "all"].values
        assert np.mean([v for v in every if v is not None]) != pooled["ssim_sweep", explainer, "ssim", "all"].mean


def test_values_do_not_depend_on_batches_shards_or_other_explainers(digit_classifier: Classifier) -> None:
    check = CHECK.model_copy(update={"changes": (*CHANGES[:3], Change(augmentation=JpegQuality(), values=(60.0,)))})
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


def test_the_random_control_always_runs_and_differs_from_itself(digit_classifier: Classifier) -> None:
    (result,) = audit(digit_classifier, CHECK, (Gradient(),))
    control = rows(result, "random")["ssim", "all"]
    assert control.control
    assert all(value is not None and abs(value) < 0.1 for value in control.values)
    assert not rows(result, "gradient")["ssim", "all"].control
    (asked,) = audit(digit_classifier, CHECK, (Random(),))
    same = rows(asked, "random")["ssim", "all"]
    assert same.values == control.values
    assert not same.control


def test_no_map_is_computed_for_a_rejected_copy(digit_classifier: Classifier) -> None:
    check = SsimSweepCheck(changes=CHANGES, tolerance=1e-12)
    (result,) = audit(digit_classifier, check, (Gradient(),))
    found = rows(result, "gradient")
    assert found["accepted_fraction", "all"].values == (0.0,) * IMAGES
    for variant in ("all", *(change.augmentation.label for change in CHANGES)):
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
    assert waves_of(AuditPlan(explainers=(Gradient(),), checks=(SweepCheck(augmentations=(HorizontalFlip(),)),))) == (
        "compute",
    )
    blur = SweepCheck(augmentations=(GaussianBlur(), HorizontalFlip(), Rotate(interval=(-5, 5))), levels=3)
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
    check = SsimSweepCheck(changes=(Change(augmentation=Translate(), values=(0.8,)),), tolerance=1.0)
    (result,) = audit(digit_classifier, check, (Gradient(),))
    found = rows(result, "gradient")
    assert found["accepted_fraction", "translate"].values == (1.0,) * IMAGES
    assert found["ssim", "translate"].values == (None,) * IMAGES
    assert "no window of SSIM" in found["ssim", "translate"].reasons[0]


def test_without_gmic_its_augmentation_is_not_applicable_and_the_rest_goes_on(
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
    rest = CHECK.model_copy(update={"changes": tuple(c for c in CHANGES if c.augmentation.kind != "gmic")})
    (without,) = audit(digit_classifier, rest, (Gradient(),))
    for metric in ("ssim", "accepted_fraction"):
        assert found[metric, "all"].values == rows(without, "gradient")[metric, "all"].values


def test_without_gmic_a_sweep_goes_on_too(digit_classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gmic", None)
    automatic = Gmic(filter="sharpen", interval="auto")
    sweep = SweepCheck(augmentations=(automatic, Rotate(interval=(-5, 5))), levels=2)
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


def test_explainers_that_cannot_run_are_null_with_their_reason(untrained_linear: Classifier) -> None:
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
    augmentation = Rotate(interval=(-40, 40))
    plan = AuditPlan(
        seed=7,
        target="top",
        top_n=2,
        explainers=(Random(),),
        checks=(SweepCheck(augmentations=(augmentation,), levels=3),),
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
            logits = [
                slow._logits(slow._changed(augmentation, slow.pixels, value))[target.target] for value in (-40, 40)
            ]
            assert rate == np.mean([logit < 0 for logit in logits])
