"""Agreement of the maps of two models: by hand, by scikit-image and SciPy, its properties, what it cannot compare."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from scipy.stats import pearsonr, spearmanr
from skimage.metrics import structural_similarity as skimage_similarity
from torch import Tensor, nn

import digits
import reference
from auditcore.checks.agreement import CONSTANT
from auditcore.checks.map_agreement import NO_WINDOW
from auditcore.contracts.access import Limits
from auditcore.contracts.augmentations import Brightness, GaussianNoise, Hue, JpegQuality
from auditcore.contracts.capabilities import SAME_MAPS, pair_incompatibility
from auditcore.contracts.checks import AgreementCheck
from auditcore.contracts.explainers import (
    CONTROL,
    Explainer,
    GradCam,
    Gradient,
    Iba,
    IntegratedGradients,
    Occlusion,
    Precomputed,
    Rise,
    ServedExplainer,
    SmoothGrad,
)
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.shards import Measurement, ShardResult
from auditcore.contracts.speed import Speed
from auditcore.costs.passes import ModelFacts, passes_needed, passes_on_reference
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import ReferenceTask, Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.errors import ModelOutputInvalid
from auditcore.explainers.registry import explain
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

SEED, IMAGES = 7, 6
MEASURES = ("ssim", "pearson", "spearman", "top_k")
EXPLAINERS: tuple[Explainer, ...] = (Gradient(), SmoothGrad(samples=2), GradCam(), Occlusion(window=16, stride=16))


def altered(noise: float, preprocessing: Preprocessing = digits.PREPROCESSING) -> Classifier:
    """The digits network with noise on its weights: the same architecture, almost the same answers."""
    network = copy.deepcopy(digits.trained())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=noise)
    return Classifier(network, preprocessing=preprocessing)


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)


@pytest.fixture(scope="module")
def retrained() -> Classifier:
    return altered(0.02)


def run(
    classifier: Classifier,
    other: Classifier,
    check: AgreementCheck | None = None,
    explainers: tuple[Explainer, ...] = EXPLAINERS,
    images: Sequence[EncodedImage] | None = None,
    micro_batch: int = 4,
    **plan: Any,
) -> ShardResult:
    """One shard of a model, compared with another that is called `a`."""
    named = (check or AgreementCheck()).with_reference_model("a")
    task = AuditPlan(seed=SEED, explainers=explainers, checks=(named,), **plan)
    encoded = digits.encoded(IMAGES, labeled=True) if images is None else images
    return run_shard(
        ShardTask(plan=task, wave="compute", images=encoded, references={"a": ReferenceTask(0, {})}),
        Runtime(classifier, {"a": other}, micro_batch=micro_batch),
    )


def values(result: ShardResult) -> dict[tuple[str | None, str], tuple[float | None, ...]]:
    return {(one.explainer, one.metric): one.values for one in of_check(result)}


def of_check(result: ShardResult) -> list[Measurement]:
    return [one for one in result.measurements if one.check == "agreement"]


def digits_seen() -> Tensor:
    """The digits as the models see them after decoding."""
    return (digits.digit_pixels()[0][:IMAGES] * 255).round() / 255


def streams_of_digits() -> Streams:
    return Streams(SEED, tuple(image.digest for image in digits.encoded(IMAGES)))


def maps(
    classifier: Classifier, explainer: Explainer, targets: Tensor, view: str | None = None, pixels: Tensor | None = None
) -> np.ndarray:
    """Maps of the digits or of changed copies of them, channels summed."""
    pixels = digits_seen() if pixels is None else pixels
    streams = streams_of_digits()
    streams = streams if view is None else streams.sharing([view] * IMAGES)
    found: np.ndarray = explain(classifier, explainer, pixels, targets, streams).maps.double().sum(dim=1).numpy()
    return found


def test_equals_its_definition(trained: Classifier, retrained: Classifier) -> None:
    result = run(retrained, trained, AgreementCheck(top_share=0.05))
    found = values(result)
    targets = torch.tensor([record.targets[0].target for record in result.images])
    alike = [index for index, value in enumerate(found[None, "prediction_agreement"]) if value == 1]
    assert len(alike) >= 4
    for explainer in (*EXPLAINERS, CONTROL):
        own, other = maps(retrained, explainer, targets), maps(trained, explainer, targets, "agreement/model=a")
        for index in alike:
            one, two = own[index], other[index]
            scaled = [each / np.abs(each).max() for each in (one, two)]
            overlap, _, chance = reference.top_k_overlap(one.ravel().tolist(), two.ravel().tolist(), 51)
            expected = {
                "ssim": reference.structural_similarity(scaled[0][None], scaled[1][None], 1.0),
                "pearson": reference.pearson(one.ravel().tolist(), two.ravel().tolist()),
                "spearman": spearmanr(one.ravel(), two.ravel()).statistic,
                "top_k": overlap,
                "top_k_chance": chance,
            }
            for metric, value in expected.items():
                assert found[explainer.label, metric][index] == pytest.approx(value, abs=1e-5), (explainer, metric)


@pytest.mark.parametrize(("normalize", "window"), [("max_abs", 11), ("min_max", 7)])
def test_similarity_agrees_with_scikit_image(
    trained: Classifier, retrained: Classifier, normalize: Any, window: int
) -> None:
    check = AgreementCheck(measures=("ssim",), normalize=normalize, window=window, absolute=True, only_alike=False)
    result = run(retrained, trained, check, (Gradient(),))
    targets = torch.tensor([record.targets[0].target for record in result.images])
    pairs = zip(*(np.abs(maps(model, Gradient(), targets)) for model in (retrained, trained)), strict=True)
    low = 0 if normalize == "max_abs" else 1
    expected = [
        skimage_similarity(
            *((each - low * each.min()) / (each.max() - low * each.min()) for each in pair),
            win_size=window,
            data_range=1.0,
        )
        for pair in pairs
    ]
    assert values(result)["gradient", "ssim"] == pytest.approx(expected, abs=1e-5)
    assert {one.metric for one in of_check(result)} == {"ssim", "self_ssim", "prediction_agreement"}


def test_a_model_agrees_with_itself_and_the_random_control_does_not(trained: Classifier) -> None:
    found = values(run(trained, trained))
    assert set(found[None, "prediction_agreement"]) == {1}
    for explainer in EXPLAINERS:
        for metric in MEASURES:
            assert found[explainer.label, metric] == pytest.approx([1] * IMAGES, abs=1e-6), (explainer, metric)
    assert max(abs(value or 0) for value in found["random", "pearson"]) < 0.2
    assert found["random", "top_k"] == pytest.approx(found["random", "top_k_chance"], abs=0.2)
    control = [one.control for one in of_check(run(trained, trained)) if one.explainer == "random"]
    assert control
    assert all(control)


def test_fresh_noise_tells_a_stochastic_explainer_from_itself(trained: Classifier) -> None:
    found = values(run(trained, trained, AgreementCheck(noise="fresh")))
    assert found["gradient", "pearson"] == pytest.approx([1] * IMAGES, abs=1e-6)
    assert all(value is not None and value < 0.999 for value in found["smoothgrad", "pearson"])


def test_it_is_symmetric_and_images_keep_their_values_in_any_order(trained: Classifier, retrained: Classifier) -> None:
    check = AgreementCheck(only_alike=False)
    images = digits.encoded(IMAGES, labeled=True)
    here = values(run(retrained, trained, check, images=images, target="label"))
    there = values(run(trained, retrained, check, images=images, target="label"))
    # an index stays with its file, so that the file decides on the value
    turned = [replace(image, index=index) for index, image in enumerate(images[::-1])]
    back = values(run(retrained, trained, check, images=turned, target="label"))
    for explainer in EXPLAINERS:
        for metric in MEASURES:
            key = (explainer.label, metric)
            assert there[key] == pytest.approx(here[key], abs=1e-6)
            assert back[key][::-1] == pytest.approx(here[key], abs=1e-6)


def test_images_that_the_models_do_not_classify_alike_are_left_out_with_both_classes(trained: Classifier) -> None:
    other = altered(0.2)
    result = run(other, trained, explainers=(Gradient(),))
    (alike,) = (one.values for one in of_check(result) if one.metric == "prediction_agreement")
    assert set(alike) == {0, 1}
    pixels = digits.digit_pixels()[0][:IMAGES]
    first, second = (model.logits(pixels).argmax(dim=1).tolist() for model in (other, trained))
    assert list(alike) == [float(a == b) for a, b in zip(first, second, strict=True)]
    (row,) = (one for one in of_check(result) if (one.explainer, one.metric) == ("gradient", "pearson"))
    assert [value is not None for value in row.values] == [value == 1 for value in alike]
    assert row.reasons == {
        index: f"this model predicts class {first[index]}, and model 'a' predicts class {second[index]}"
        for index, value in enumerate(alike)
        if value == 0
    }
    everything = values(run(other, trained, AgreementCheck(only_alike=False), (Gradient(),)))
    assert None not in everything["gradient", "pearson"]


def test_models_of_several_labels_are_alike_where_they_say_the_same_of_the_class() -> None:
    first, second = (
        Classifier(model.module, preprocessing=digits.PREPROCESSING, scores="sigmoid")
        for model in (altered(0.3), altered(0.0))
    )
    result = run(first, second, explainers=(Gradient(),), target="top", top_n=2)
    pixels = (digits.digit_pixels()[0][:IMAGES] * 255).round() / 255
    targets = first.logits(pixels).topk(2).indices
    expected = [
        [float((one[target] >= 0) == (two[target] >= 0)) for target in own.tolist()]
        for one, two, own in zip(first.logits(pixels), second.logits(pixels), targets, strict=True)
    ]
    (alike,) = (one for one in of_check(result) if one.metric == "prediction_agreement")
    assert [list(own) for own in alike.per_target or ()] == expected
    assert {value for own in expected for value in own} == {0, 1}
    (row,) = (one for one in of_check(result) if (one.explainer, one.metric) == ("gradient", "pearson"))
    assert [[float(value is not None) for value in own] for own in row.per_target or ()] == expected
    reasons = [reason for index, reason in row.reasons.items() if not any(expected[index])]
    assert all("a probability of at least 0.5" in reason for reason in reasons)


def test_models_of_other_sizes_are_compared_on_what_both_see(trained: Classifier) -> None:
    """The other model sees the center of an image, enlarged: 24 of 32 pixels become 48."""
    center = altered(0.0, digits.PREPROCESSING.model_copy(update={"resize": 64, "crop": 48}))
    check = AgreementCheck(only_alike=False)
    result = run(center, trained, check, (Gradient(),), target="label")
    labels = digits.digit_pixels()[1][:IMAGES]
    whole = maps(trained, Gradient(), labels)
    row = values(result)["gradient", "pearson"]
    for index, image in enumerate(digits.encoded(IMAGES)):
        pixels = run_pixels(image, center)
        own = explain(center, Gradient(), pixels, labels[index : index + 1], Streams(SEED, (image.digest,)))
        summed = own.maps.double().sum(dim=1)[0].float().numpy()
        small = np.asarray(Image.fromarray(summed).resize((24, 24), Image.Resampling.BILINEAR), np.float64)
        expected = np.corrcoef(small.ravel(), whole[index][4:28, 4:28].ravel())[0, 1]
        assert row[index] == pytest.approx(expected, abs=1e-4)
    declared = values(run(center, trained, replace_check(check, size=12), (Gradient(),), target="label"))
    assert declared["gradient", "pearson"] != row
    assert declared["gradient", "top_k_chance"] == pytest.approx([14 / 144] * IMAGES, abs=1e-4)


def replace_check(check: AgreementCheck, **changes: Any) -> AgreementCheck:
    return AgreementCheck.model_validate({**check.model_dump(), **changes})


def run_pixels(image: EncodedImage, classifier: Classifier) -> Tensor:
    return decode_batch([image], classifier.preprocessing, Limits()).pixels


def test_a_window_that_does_not_fit_leaves_only_similarity_without_a_value(
    trained: Classifier, retrained: Classifier
) -> None:
    result = run(retrained, trained, AgreementCheck(size=8, only_alike=False), (Gradient(),))
    (row,) = (one for one in of_check(result) if (one.explainer, one.metric) == ("gradient", "ssim"))
    assert row.reasons == dict.fromkeys(range(IMAGES), NO_WINDOW)
    assert None not in values(result)["gradient", "pearson"]


class Indifferent(nn.Module):
    """Logits that depend on the image, with gradients that do not: they are 0."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.arange(float(classes)))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias + 0 * x.flatten(1).sum(dim=1, keepdim=True)


def test_a_constant_map_of_either_model_is_no_number(trained: Classifier) -> None:
    flat = Classifier(Indifferent(), preprocessing=digits.PREPROCESSING)
    for pair in ((flat, trained), (trained, flat)):
        result = run(*pair, AgreementCheck(only_alike=False, harmless=()), (Gradient(),))
        for one in of_check(result):
            if one.explainer == "gradient":
                assert one.reasons == dict.fromkeys(range(IMAGES), CONSTANT), one.metric
                assert set(one.values) == {None}


def test_models_of_other_classes_and_explainers_that_only_one_can_run(trained: Classifier) -> None:
    fewer = Classifier(digits.build(7), preprocessing=digits.PREPROCESSING)
    result = run(trained, fewer, explainers=(Gradient(),))
    reason = "this model has 10 classes and model 'a' has 7, so that their classes do not correspond"
    assert {one for row in of_check(result) for one in row.reasons.values()} == {reason}
    assert all(set(row.values) == {None} for row in of_check(result))

    flat = Classifier(Indifferent(), preprocessing=digits.PREPROCESSING)
    result = run(trained, flat, AgreementCheck(only_alike=False), (GradCam(), Rise(masks=4)))
    reasons = {one.explainer: set(one.reasons.values()) for one in of_check(result) if one.metric == "pearson"}
    (said,) = reasons["grad_cam"]
    assert said.startswith("model 'a': ")
    assert reasons["rise"] == set()


def test_maps_that_do_not_come_from_the_models_are_not_compared() -> None:
    uploaded = Precomputed(maps=f"sha256:{0:064}")
    served = ServedExplainer(protocol="kserve_v1", url="https://explain.example", model="explainer")
    for explainer in (uploaded, served):
        group = AuditPlan(explainers=(explainer,), checks=(AgreementCheck(reference="a"),))
        needed = passes_needed(group, wave="compute", images=2)
        assert needed["agreement"].forward == 2, "only the predictions"
    assert {pair_incompatibility(AgreementCheck(), one) for one in (uploaded, served)} == {SAME_MAPS}
    assert {pair_incompatibility(AgreementCheck(), one) for one in EXPLAINERS} == {None}


def test_an_error_of_the_reference_names_the_reference(trained: Classifier) -> None:
    broken = altered(0.0)
    with torch.no_grad():
        for value in broken.folded.parameters():
            value.fill_(torch.nan)
    with pytest.raises(ModelOutputInvalid) as caught, blaming_model("b", 1):
        run(trained, broken, explainers=(Gradient(),))
    assert caught.value.field.startswith("models.0.model")


def test_quantities_of_the_reference_are_its_own(trained: Classifier, retrained: Classifier) -> None:
    iba = Iba(steps=2, samples=2)
    plan = AuditPlan(seed=SEED, explainers=(iba,), checks=(AgreementCheck(reference="a", only_alike=False),))
    images = digits.encoded(IMAGES, labeled=True)
    measured = {
        model: reduce_shared(
            plan, (run_shard(ShardTask(plan=plan, wave="measure", images=images), Runtime(model, micro_batch=4)),)
        )
        for model in (trained, retrained)
    }
    found = [
        values(
            run_shard(
                ShardTask(
                    plan=plan,
                    wave="compute",
                    images=images,
                    shared=measured[retrained],
                    references={"a": ReferenceTask(0, measured[own])},
                ),
                Runtime(retrained, {"a": trained}, micro_batch=4),
            )
        )["iba", "pearson"]
        for own in (trained, retrained)
    ]
    assert found[0] != found[1]


def test_passes_are_those_of_the_formula_for_both_models(trained: Classifier, retrained: Classifier) -> None:
    explainers = (*EXPLAINERS, IntegratedGradients(steps=3, baseline="black"), Rise(masks=5, cells=4))
    check = AgreementCheck(reference="a")
    plan = AuditPlan(seed=SEED, explainers=explainers, checks=(check,))
    before = trained.ledger.forward_images, trained.ledger.backward_images
    result = run(retrained, trained, check, explainers)
    made = result.cost.checks["agreement"]
    facts = ModelFacts(shape=retrained.shape)
    needed = passes_needed(plan, wave="compute", images=IMAGES, facts=facts)["agreement"]
    assert (made.forward_images, made.backward_images) == (needed.forward, needed.backward)
    ledger = trained.ledger
    assert (ledger.forward_images - before[0], ledger.backward_images - before[1]) == (needed.forward, needed.backward)
    assert passes_on_reference(plan, "a", rows=IMAGES, facts=facts, references={}) == needed
    assert result.cost.forward_images == sum(one.forward_images for one in result.cost.checks.values())
    # a model that is compared with itself has one ledger
    both = run(trained, trained, check, explainers)
    assert both.cost.checks["agreement"] == made
    assert result.references == {"a": trained.digest}


def test_faster_modes_are_measured_again_with_both_models_exact(trained: Classifier, retrained: Classifier) -> None:
    named = AgreementCheck(reference="a", only_alike=False, measures=("pearson",))
    plan = AuditPlan(seed=SEED, explainers=(Gradient(),), checks=(named,), speed=Speed(precision="bf16"))
    result = run_shard(
        ShardTask(
            plan=plan,
            wave="compute",
            images=digits.encoded(3),
            references={"a": ReferenceTask(0, {})},
            deviation_images=2,
        ),
        Runtime(retrained, {"a": trained}, micro_batch=4),
    )
    exact = run(retrained, trained, named, (Gradient(),), digits.encoded(3))
    samples = {one.metric: one for one in result.deviations if (one.check, one.explainer) == ("agreement", "gradient")}
    assert list(samples) == ["pearson", "self_pearson"]
    for metric, sample in samples.items():
        assert sample.exact == values(exact)["gradient", metric][:2]
        assert sample.fast != sample.exact


# --- the reference model with itself ---------------------------------------------------------------


def changed_copies() -> dict[str, Tensor]:
    """Darker, brighter and noisy copies of the digits by the part of their view, made slowly in float64."""
    images = digits_seen().double().numpy()
    fields = streams_of_digits().normal(images.shape[1:], "augmentation/gaussian_noise").double().numpy()
    copies = {
        "brightness=-0.4": [reference.brightness(image, -0.4) for image in images],
        "brightness=0.4": [reference.brightness(image, 0.4) for image in images],
        "gaussian_noise=0.4": [
            reference.gaussian_noise(image, 0.4, field) for image, field in zip(images, fields, strict=True)
        ],
    }
    return {view: torch.from_numpy(np.stack(made)).float() for view, made in copies.items()}


def compressed(image: Tensor, quality: int) -> Tensor:
    """An image that Pillow has written as JPEG and read again."""
    file = io.BytesIO()
    Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(
        file, format="JPEG", quality=quality, subsampling="4:2:0"
    )
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255


def test_the_reference_with_itself_equals_its_definition(trained: Classifier, retrained: Classifier) -> None:
    """The mean over the copies that it classifies like the image; large changes, so that some are not."""
    check = AgreementCheck(
        top_share=0.05, harmless=(Brightness(interval=(-0.4, 0.4)), GaussianNoise(interval=(0.0, 0.4)))
    )
    result = run(retrained, trained, check)
    found = values(result)
    targets = torch.tensor([record.targets[0].target for record in result.images])
    copies = changed_copies()
    predicted = trained.logits(digits_seen()).argmax(dim=1)
    kept = torch.stack([trained.logits(pixels).argmax(dim=1) == predicted for pixels in copies.values()], dim=1)
    assert {0 < int(row.sum()) < len(copies) for row in kept} == {True, False}, "some images lose some copies"
    compared = found[None, "prediction_agreement"]
    for explainer in (*EXPLAINERS, CONTROL):
        before = maps(trained, explainer, targets, "agreement/model=a")
        after = [
            maps(trained, explainer, targets, f"agreement/model=a/{view}", pixels) for view, pixels in copies.items()
        ]
        for index in range(IMAGES):
            expected: dict[str, list[float]] = {f"self_{measure}": [] for measure in MEASURES}
            for changed in (made for made, counts in zip(after, kept[index].tolist(), strict=True) if counts):
                one, two = before[index], changed[index]
                scaled = [each / np.abs(each).max() for each in (one, two)]
                expected["self_ssim"].append(reference.structural_similarity(scaled[0][None], scaled[1][None], 1.0))
                expected["self_pearson"].append(reference.pearson(one.ravel().tolist(), two.ravel().tolist()))
                expected["self_spearman"].append(float(spearmanr(one.ravel(), two.ravel()).statistic))
                expected["self_top_k"].append(
                    reference.top_k_overlap(one.ravel().tolist(), two.ravel().tolist(), 51)[0]
                )
            for metric, each in expected.items():
                value = found[explainer.label, metric][index]
                if compared[index] == 1 and each:
                    assert value == pytest.approx(np.mean(each), abs=1e-5), (explainer, metric, index)
                else:
                    assert value is None


def test_the_reference_with_itself_agrees_with_pillow_scikit_image_and_scipy(
    trained: Classifier, retrained: Classifier
) -> None:
    check = AgreementCheck(only_alike=False, harmless=(JpegQuality(interval=(95.0, 100.0)),))
    result = run(retrained, trained, check, (Gradient(),))
    targets = torch.tensor([record.targets[0].target for record in result.images])
    copies = torch.stack([compressed(image, 95) for image in digits_seen()])
    pairs = list(
        zip(maps(trained, Gradient(), targets), maps(trained, Gradient(), targets, pixels=copies), strict=True)
    )
    found = values(result)
    ssim = [skimage_similarity(*(m / np.abs(m).max() for m in pair), win_size=11, data_range=1.0) for pair in pairs]
    assert found["gradient", "self_ssim"] == pytest.approx(ssim, abs=1e-5)
    for metric, measure in (("self_pearson", pearsonr), ("self_spearman", spearmanr)):
        expected = [measure(*(each.ravel() for each in pair)).statistic for pair in pairs]
        assert found["gradient", metric] == pytest.approx(expected, abs=1e-5)


def test_a_reference_has_1_with_itself_if_nothing_changes_and_less_the_more_changes(trained: Classifier) -> None:
    levels = (1e-9, 1e-3, 1e-2, 5e-2)
    found = [
        values(
            run(
                trained,
                trained,
                AgreementCheck(harmless=(GaussianNoise(interval=(0.0, level)),)),
                explainers=EXPLAINERS,
            )
        )
        for level in levels
    ]
    for explainer in EXPLAINERS:
        for measure in MEASURES:
            rows = [one[explainer.label, f"self_{measure}"] for one in found]
            assert rows[0] == pytest.approx([1] * IMAGES, abs=1e-5), (explainer, measure)
            means = [np.mean([value for value in row if value is not None]) for row in rows]
            assert means == sorted(means, reverse=True), (explainer, measure)
            assert means[-1] < 0.999
    # maps without any relation do not agree with themselves either
    assert max(abs(value or 0) for value in found[0]["random", "self_pearson"]) < 0.2


def test_harmless_changes_leave_every_other_number_as_it_is(trained: Classifier, retrained: Classifier) -> None:
    own = {f"self_{measure}" for measure in MEASURES}
    with_changes, without = (of_check(run(retrained, trained, check)) for check in (None, AgreementCheck(harmless=())))
    assert [one for one in with_changes if one.metric not in own] == without
    assert {one.metric for one in with_changes} - {one.metric for one in without} == own


def test_the_reference_with_itself_has_the_same_values_in_every_micro_batch(
    trained: Classifier, retrained: Classifier
) -> None:
    one, other = (values(run(retrained, trained, micro_batch=size)) for size in (1, 6))
    # convolutions round by the size of the batch, which can swap the ranks of two pixels
    for measure, bound in (("ssim", 1e-5), ("pearson", 1e-5), ("spearman", 1e-4), ("top_k", 1 / 102)):
        for explainer in (*EXPLAINERS, CONTROL):
            key = (explainer.label, f"self_{measure}")
            assert one[key] == pytest.approx(other[key], abs=bound), key


def test_the_reference_with_itself_is_about_the_images_on_which_both_are_compared(trained: Classifier) -> None:
    rows = {
        one.metric: one
        for one in of_check(run(altered(0.2), trained, explainers=(Gradient(),)))
        if one.explainer == "gradient"
    }
    assert rows["pearson"].reasons
    assert rows["self_pearson"].reasons == rows["pearson"].reasons
    assert [value is None for value in rows["self_pearson"].values] == [v is None for v in rows["pearson"].values]


def test_why_the_reference_has_no_agreement_with_itself(trained: Classifier, retrained: Classifier) -> None:
    def reasons(check: AgreementCheck, other: Classifier = trained) -> dict[str, set[str]]:
        found = of_check(run(retrained, other, check, (Gradient(),)))
        own = {one.metric: one for one in found if one.explainer == "gradient"}
        assert set(own["self_ssim"].values) == {None}
        return {metric: set(one.reasons.values()) for metric, one in own.items()}

    black = AgreementCheck(only_alike=False, harmless=(Brightness(interval=(-1.0, 0.0)),))
    unlike = values(run(retrained, trained, black, (Gradient(),)))["gradient", "self_pearson"]
    gone = trained.logits(torch.zeros(1, 3, digits.SIDE, digits.SIDE)).argmax().item()
    predicted = trained.logits(digits_seen()).argmax(dim=1).tolist()
    assert [value is None for value in unlike] == [one != gone for one in predicted]
    flat = Classifier(Indifferent(), preprocessing=digits.PREPROCESSING)
    assert reasons(AgreementCheck(only_alike=False), flat)["self_pearson"] == {
        "a map of model 'a' is constant or not finite, of the image or of its harmless copies"
    }
    assert reasons(AgreementCheck(only_alike=False, size=8))["self_ssim"] == {NO_WINDOW}
    bands = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING.model_copy(update={"colors": "bands"}))
    hue = AgreementCheck(only_alike=False, harmless=(Hue(interval=(-1.0, 1.0)),))
    (said,) = reasons(hue, bands)["self_pearson"]
    assert said.startswith("model 'a': hue changes colors, and the model sees bands")
    assert said.endswith("take hue out of `harmless`")


@pytest.mark.parametrize(
    ("harmless", "message"),
    [
        ([{"kind": "rotate", "interval": [-1, 1]}], "harmless change 'rotate' moves pixels"),
        ([{"kind": "brightness"}], "set its `interval` to two numbers around 0"),
        ([{"kind": "contrast", "interval": [0.9, 1]}] * 2, "harmless change 'contrast' is listed twice"),
    ],
)
def test_a_change_that_is_not_harmless_is_refused(harmless: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AgreementCheck.model_validate({"harmless": harmless})


def test_each_copy_costs_the_reference_a_map_and_a_change_that_is_not_there_costs_none() -> None:
    explainers = (Gradient(), GradCam(), Rise(masks=4))

    def forward(*unavailable: str, **check: Any) -> int:
        plan = AuditPlan(explainers=explainers, checks=(AgreementCheck(reference="a", **check),))
        facts = ModelFacts(unavailable=frozenset(unavailable))
        return passes_needed(plan, wave="compute", images=5, facts=facts)["agreement"].forward

    without = forward(harmless=())
    assert forward() == without * 4
    assert forward(harmless=(GaussianNoise(interval=(0.0, 0.01)),)) == without * 2
    assert forward("brightness") == without


def test_copies_of_images_with_several_labels_count_where_the_reference_says_the_same_of_the_class() -> None:
    first, second = (
        Classifier(model.module, preprocessing=digits.PREPROCESSING, scores="sigmoid")
        for model in (altered(0.02), altered(0.0))
    )
    check = AgreementCheck(only_alike=False, harmless=(Brightness(interval=(-1.0, 0.0)),))
    result = run(first, second, check, (Gradient(),), target="top", top_n=2)
    targets = first.logits(digits_seen()).topk(2).indices
    black = second.logits(torch.zeros(1, 3, digits.SIDE, digits.SIDE))[0] >= 0
    seen = second.logits(digits_seen()) >= 0
    expected = [
        [bool(black[target] == row[target]) for target in own] for row, own in zip(seen, targets.tolist(), strict=True)
    ]
    assert {kept for own in expected for kept in own} == {True, False}
    (row,) = (one for one in of_check(result) if (one.explainer, one.metric) == ("gradient", "self_pearson"))
    assert [[value is not None for value in own] for own in row.per_target or ()] == expected
