"""Every number of every check, batched and shared, against one image and one change at a time."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import digits
from auditcore.contracts.augmentations import (
    Augmentation,
    Brightness,
    Composition,
    Contrast,
    GaussianBlur,
    GaussianNoise,
    Gmic,
    HorizontalFlip,
    Hue,
    Rotate,
    Saturation,
    Scale,
    Translate,
)
from auditcore.contracts.checks import Check, DeletionCheck, EddaCheck, SweepCheck
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
    SmoothGrad,
)
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.ranking_orders import RankBy
from auditcore.contracts.shards import Measurement, ShardResult
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from naive import Curves, NaiveAudit, Numbers

IMAGES = 2


def run(
    classifier: Classifier,
    checks: tuple[Check, ...],
    explainers: tuple[Explainer, ...],
    images: Sequence[EncodedImage] | None = None,
    micro_batch: int | None = None,
) -> ShardResult:
    return run_shard(
        ShardTask(
            plan=AuditPlan(seed=7, explainers=explainers, checks=checks),
            wave="compute",
            images=images or digits.encoded(IMAGES),
        ),
        Runtime(classifier, micro_batch=micro_batch, clock=lambda: 0.0),
    )


def naive(classifier: Classifier, image: EncodedImage) -> NaiveAudit:
    pixels, _ = digits.digit_pixels()
    quantized = np.round(pixels[image.index].numpy() * 255) / 255
    return NaiveAudit(classifier, quantized.astype(np.float32), 7, image.digest)


def rows(result: ShardResult, explainer: str) -> dict[tuple[str, str | None], Measurement]:
    return {(m.metric, m.variant): m for m in result.measurements if m.explainer in {explainer, None}}


def assert_same(found: dict[tuple[str, str | None], Measurement], expected: Numbers, position: int) -> None:
    for key, value in expected.items():
        measured = found[key].values[position]
        if np.isnan(value):
            assert measured is None
            assert found[key].reasons[position]
        else:
            assert measured == pytest.approx(value, rel=2e-3, abs=2e-4), key


def assert_same_curves(found: dict[tuple[str, str | None], Measurement], expected: Curves, position: int) -> None:
    assert expected.keys() == {key for key, m in found.items() if m.curve and m.metric != "interpolation_ceiling"}
    for key, (x, values) in expected.items():
        curve = found[key].curve
        assert curve is not None
        assert curve.x == pytest.approx(x, rel=1e-5, abs=1e-9), key
        assert curve.values[position] == pytest.approx(values, rel=2e-3, abs=2e-4), key


AUGMENTATIONS: tuple[Augmentation, ...] = (
    Brightness(interval=(-0.3, 0.3)),
    Hue(interval=(-60, 60)),
    Saturation(interval=(-0.3, 0.2)),
    Rotate(interval=(-20, 20)),
    Translate(interval=(-0.1, 0.1)),
    Scale(interval=(0.8, 1.2)),
    Contrast(interval=(0.6, 1.5)),
    GaussianNoise(interval=(0, 0.1)),
    GaussianBlur(interval=(0, 1.2)),
    HorizontalFlip(),
    Gmic(filter="sharpen"),
    Composition(first=Rotate(interval=(-20, 10)), second=Brightness(interval=(-0.2, 0.3))),
    Composition(first=GaussianNoise(interval=(0, 0.1)), second=HorizontalFlip(), interval=(0, 1)),
)


STOCHASTIC: tuple[Explainer, ...] = (
    SmoothGrad(samples=3),
    NoiseTunnel(name="tunneled", method=IntegratedGradients(steps=2, baseline="uniform"), samples=2),
    GradientShap(samples=3, std=0.1),
    IntegratedGradients(name="noisy", steps=3, baseline="gaussian"),
    DeepLift(baseline="uniform"),
    Rise(masks=20, cells=4),
    KernelShap(segments="cells", count=16, samples=50),
)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: augmentation.label)
@pytest.mark.parametrize("explainer", [Gradient(), Random()], ids=lambda explainer: explainer.kind)
def test_sweep(digit_classifier: Classifier, augmentation: Augmentation, explainer: Explainer) -> None:
    check = SweepCheck(augmentations=(augmentation,), levels=4, top_k=100)
    found = rows(run(digit_classifier, (check,), (explainer,)), explainer.kind)
    for position, image in enumerate(digits.encoded(IMAGES)):
        slow = naive(digit_classifier, image)
        assert_same(found, slow.sweep(check, augmentation, explainer), position)
        assert_same_curves(found, slow.curves, position)


@pytest.mark.parametrize("noise", ["common", "fresh"])
@pytest.mark.parametrize("reduce", ["sum", "none"])
@pytest.mark.parametrize("explainer", STOCHASTIC, ids=lambda explainer: explainer.label)
def test_sweep_of_a_stochastic_explainer(
    digit_classifier: Classifier, explainer: Explainer, reduce: str, noise: str
) -> None:
    augmentation = Brightness(interval=(-0.1, 0.3))
    check = SweepCheck.model_validate(
        {"augmentations": (augmentation,), "levels": 3, "top_k": 100, "reduce": reduce, "noise": noise}
    )
    found = rows(run(digit_classifier, (check,), (explainer,), micro_batch=3), explainer.label)
    for position, image in enumerate(digits.encoded(IMAGES)):
        expected = naive(digit_classifier, image).sweep(check, augmentation, explainer)
        assert ("repeatability_top_k", None) in expected
        assert_same(found, expected, position)


@pytest.mark.parametrize("anchor", ["identity", "max"])
@pytest.mark.parametrize("reduce", ["none", "mean", "max_abs"])
def test_sweep_settings(digit_classifier: Classifier, anchor: str, reduce: str) -> None:
    augmentation = Rotate(interval=(-20, 10))
    check = SweepCheck.model_validate(
        {"augmentations": (augmentation,), "levels": 3, "top_k": 50, "anchor": anchor, "reduce": reduce}
    )
    found = rows(run(digit_classifier, (check,), (InputXGradient(),)), "input_x_gradient")
    for position, image in enumerate(digits.encoded(IMAGES)):
        assert_same(found, naive(digit_classifier, image).sweep(check, augmentation, InputXGradient()), position)


@pytest.mark.parametrize("anchor", ["identity", "max"])
def test_the_anchor_of_a_probability_that_rises(digit_classifier: Classifier, anchor: str) -> None:
    image = digits.encoded(13)[12]
    check = SweepCheck.model_validate({"augmentations": (Rotate(interval=(-10, 10)),), "levels": 3, "anchor": anchor})
    slow = naive(digit_classifier, image)
    scores = slow.sweep(check, check.augmentations[0], Gradient())
    _, curve = slow.curves["probability_score", "rotate"]
    assert max(curve) > slow.probability + 0.1
    assert_same(rows(run(digit_classifier, (check,), (Gradient(),), [image]), "gradient"), scores, 0)


@pytest.mark.parametrize("reduce", ["sum", "none"])
def test_sweep_with_ties(untouched_classifier: Classifier, reduce: str) -> None:
    # ties among the zeros never count: k is capped at the support; those of a map of signs do
    augmentation = Translate(interval=(-0.1, 0.1))
    check = SweepCheck.model_validate({"augmentations": (augmentation,), "levels": 3, "top_k": 700, "reduce": reduce})
    found = rows(run(untouched_classifier, (check,), (InputXGradient(),)), "input_x_gradient")
    for position, image in enumerate(digits.encoded(IMAGES)):
        assert_same(found, naive(untouched_classifier, image).sweep(check, augmentation, InputXGradient()), position)


@pytest.mark.parametrize("explainer", [Occlusion(window=8, stride=8), Ablation(grid=4)], ids=lambda one: one.kind)
def test_a_map_of_cells_that_does_not_change_keeps_its_top(digit_classifier: Classifier, explainer: Explainer) -> None:
    # cells of 64 pixels, of which 100 are compared: random orders of the ties of each map gave .84
    check = SweepCheck(augmentations=(Brightness(interval=(-1e-6, 1e-6)),), levels=5, top_k=100)
    found = rows(run(digit_classifier, (check,), (explainer,), digits.encoded(6)), explainer.kind)
    assert found["top_k_score", "brightness"].values == (1.0,) * 6
    # one cell of 64 pixels, and 36 of the 64 of another: (64 * 64 + 2 * 64 * 36 + 64 * 64 * 36 / 64) / 1024 / 100
    assert found["top_k_chance", None].values == pytest.approx([0.1075] * 6)


@pytest.mark.parametrize("fill", ["mean", "black", "blur"])
@pytest.mark.parametrize(
    ("explainer", "rank_by"),
    [(Gradient(), "auto"), (Gradient(), "signed"), (GradCam(), "auto"), (GradCam(), "magnitude")],
    ids=lambda value: getattr(value, "kind", value),
)
def test_deletion(digit_classifier: Classifier, fill: str, explainer: Explainer, rank_by: str) -> None:
    check = DeletionCheck.model_validate({"grid": 5, "repeats": 2, "fill": fill, "rank_by": rank_by})
    found = rows(run(digit_classifier, (check,), (explainer,)), explainer.kind)
    for position, image in enumerate(digits.encoded(IMAGES)):
        slow = naive(digit_classifier, image)
        colors = {
            "mean": np.broadcast_to(np.array(digits.PREPROCESSING.mean)[:, None, None], slow.pixels.shape),
            "black": np.zeros_like(slow.pixels),
            # truncate 3.0 gives radius 15: the 31 pixels of the check; mirror is reflection without the edge
            "blur": np.stack([gaussian_filter(c, 5.0, truncate=3.0, mode="mirror") for c in slow.pixels]),
        }
        assert_same(found, slow.deletion(check, explainer, colors[fill]), position)
        assert_same_curves(found, slow.curves, position)


@pytest.fixture(scope="module")
def untouched_classifier() -> Classifier:
    """Black stays 0, so that input x gradient is 0 on the whole background and ties abound."""
    preprocessing = digits.PREPROCESSING.model_copy(update={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})
    return Classifier(digits.trained(), preprocessing=preprocessing)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max_abs"])
def test_deletion_with_ties(untouched_classifier: Classifier, reduce: str) -> None:
    check = DeletionCheck.model_validate(
        {"grid": 8, "repeats": 1, "fill": "mean", "rank_by": "signed", "reduce": reduce}
    )
    found = rows(run(untouched_classifier, (check,), (InputXGradient(),)), "input_x_gradient")
    for position, image in enumerate(digits.encoded(IMAGES)):
        slow = naive(untouched_classifier, image)
        assert_same(found, slow.deletion(check, InputXGradient(), np.zeros_like(slow.pixels)), position)
        assert_same_curves(found, slow.curves, position)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max_abs"])
def test_edda_with_ties(untouched_classifier: Classifier, reduce: str) -> None:
    check = EddaCheck.model_validate(
        {"keep": (0.3, 0.6, 0.9), "thresholds": (0.2, 0.5), "rank_by": "signed", "reduce": reduce}
    )
    found = rows(run(untouched_classifier, (check,), (InputXGradient(),)), "input_x_gradient")
    for position, image in enumerate(digits.encoded(IMAGES)):
        assert_same(found, naive(untouched_classifier, image).edda(check, InputXGradient()), position)


def test_the_grid_of_a_deletion_follows_the_size(digit_classifier: Classifier) -> None:
    found = rows(run(digit_classifier, (DeletionCheck(repeats=1),), (GradCam(),)), "grad_cam")
    curve = found["lerf_auc", None].curve
    assert curve is not None
    assert len(curve.x) == 8 * 8 + 1
    finest = rows(
        run(digit_classifier, (DeletionCheck(grid=32, repeats=1),), (GradCam(),), digits.encoded(1)), "grad_cam"
    )
    curve = finest["lerf_auc", None].curve
    assert curve is not None
    assert len(curve.x) == 32 * 32 + 1


@pytest.mark.parametrize("rank_by", ["auto", "signed"])
@pytest.mark.parametrize("color", ["black", "mean"])
def test_edda(digit_classifier: Classifier, color: str, rank_by: RankBy) -> None:
    check = EddaCheck.model_validate(
        {"keep": (0.15, 0.5), "thresholds": (0.3, 0.7), "color": color, "rank_by": rank_by}
    )
    explainers: tuple[Explainer, ...] = (Gradient(), SmoothGrad(samples=3))
    result = run(digit_classifier, (check,), explainers)
    for explainer in explainers:
        for position, image in enumerate(digits.encoded(IMAGES)):
            expected = naive(digit_classifier, image).edda(check, explainer)
            assert_same(rows(result, explainer.kind), expected, position)


def test_edda_runs_the_random_control_even_when_the_plan_does_not(digit_classifier: Classifier) -> None:
    result = run(digit_classifier, (EddaCheck(keep=(0.15,)),), (Gradient(),))
    control = [m for m in result.measurements if m.explainer == "random"]
    assert control
    assert all(m.control for m in control)
    asked = run(digit_classifier, (EddaCheck(keep=(0.15,)),), (Random(),))
    same = {m.metric: m.values for m in asked.measurements}
    assert {m.metric: m.values for m in control} == same


def test_the_mean_over_augmentations_is_that_of_the_augmentations_one_by_one(digit_classifier: Classifier) -> None:
    augmentations = (Rotate(interval=(-20, 20)), Brightness(interval=(-0.3, 0.3)), Hue(interval=(-60, 60)))
    check = SweepCheck(augmentations=augmentations, levels=4, top_k=100)
    for explainer in (Gradient(), Random()):
        found = rows(run(digit_classifier, (check,), (explainer,)), explainer.kind)
        for position, image in enumerate(digits.encoded(IMAGES)):
            slow = naive(digit_classifier, image)
            each = [slow.sweep(check, augmentation, explainer) for augmentation in augmentations]
            for metric in ("s_pearson", "s_top_k"):
                expected = np.mean([own[metric, f.label] for own, f in zip(each, augmentations, strict=True)])
                mean = found[metric, "mean"].values[position]
                assert mean == pytest.approx(expected, rel=2e-3, abs=2e-4)
                singles = [found[metric, augmentation.label].values[position] for augmentation in augmentations]
                assert mean == pytest.approx(np.mean(singles), rel=1e-4)  # type: ignore[arg-type]


def test_an_image_without_the_ratio_of_one_augmentation_has_no_mean(
    digit_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gmic", None)
    check = SweepCheck(augmentations=(Rotate(interval=(-5, 5)), Gmic(filter="sharpen", interval=(0, 1))), levels=3)
    found = rows(run(digit_classifier, (check,), (Gradient(),)), "gradient")
    assert None not in found["s_pearson", "rotate"].values
    for metric in ("s_pearson", "s_top_k"):
        assert found[metric, "mean"].values == (None,) * IMAGES
        assert "gmic_sharpen has no value: " in found[metric, "mean"].reasons[0]
    monkeypatch.undo()
    one = SweepCheck(augmentations=(Rotate(interval=(-5, 5)),), levels=3)
    assert ("s_pearson", "mean") not in rows(run(digit_classifier, (one,), (Gradient(),)), "gradient")


def test_interpolation_ceiling_is_high_for_smooth_maps_and_lower_for_noise(digit_classifier: Classifier) -> None:
    check = SweepCheck(augmentations=(Rotate(interval=(-20, 20)),), levels=5)
    result = run(digit_classifier, (check,), (Random(), GradCam()))
    ceiling = {m.explainer: m.values for m in result.measurements if m.metric == "interpolation_ceiling"}
    # peers: round-trip correlation of a noise map is 0.83 to 0.90
    assert all(0.75 < value < 0.95 for value in ceiling["random"] if value is not None)
    assert all(value > 0.97 for value in ceiling["grad_cam"] if value is not None)


def test_the_interpolation_ceiling_is_that_of_the_moving_augmentation_and_a_flip_has_none(
    digit_classifier: Classifier,
) -> None:
    turn, shade = Rotate(interval=(-20, 10)), Brightness(interval=(-0.2, 0.3))
    augmentations = (
        turn,
        HorizontalFlip(),
        Composition(first=turn, second=shade),
        Composition(first=shade, second=turn),
    )
    result = run(digit_classifier, (SweepCheck(augmentations=augmentations, levels=2),), (Random(),))
    ceiling = {m.variant: m.values for m in result.measurements if m.metric == "interpolation_ceiling"}
    assert ceiling["horizontal_flip"] == (1.0,) * IMAGES
    assert ceiling["rotate+brightness"] == ceiling["brightness+rotate"] == ceiling["rotate"]
    assert all(value is not None and value < 0.99 for value in ceiling["rotate"])


def test_every_sweep_runs_the_random_control(digit_classifier: Classifier) -> None:
    check = SweepCheck(augmentations=(Rotate(interval=(-20, 20)),), levels=2)
    unasked = {
        m.metric: m for m in run(digit_classifier, (check,), (Gradient(),)).measurements if m.explainer == "random"
    }
    asked = {m.metric: m for m in run(digit_classifier, (check,), (Random(),)).measurements if m.explainer == "random"}
    assert {name: m.values for name, m in unasked.items()} == {name: m.values for name, m in asked.items()}
    assert all(m.control for m in unasked.values())
    assert not asked["s_pearson"].control


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_sweep_does_not_depend_on_batches(digit_classifier: Classifier, micro_batch: int) -> None:
    check = SweepCheck(augmentations=AUGMENTATIONS[6:], levels=3, top_k=100)
    whole, other = (
        run(digit_classifier, (check,), (Gradient(),), micro_batch=size).measurements for size in (7, micro_batch)
    )
    for one, another in zip(whole, other, strict=True):
        expected = [None if value is None else pytest.approx(value, rel=1e-4, abs=1e-5) for value in one.values]
        assert list(another.values) == expected, (one.explainer, one.metric, one.variant)
