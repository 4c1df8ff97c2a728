"""Do maps depend on their image: whole audits, cut in every way, against the correlations of the maps themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import digits
import reference
from auditcore.auditing import audit
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.explainers import Explainer, Gradient, Random
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.models import Weights
from auditcore.contracts.report import AuditReport, Result
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.explainers.registry import explain
from auditcore.images.encoded import EncodedImage
from auditcore.images.uploaded_maps import NO_MAP
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from auditcore.report.image_dependence import NO_OTHER, NOT_COMPARED
from auditcore.report.page.html import render_html
from auditcore.report.stopping import image_order
from auditcore.report.warnings import image_independent

COLOR = {"kind": "sweep", "augmentations": [{"kind": "hue", "interval": [-40, 40]}], "levels": 3}
CHEAP = {"kind": "complexity"}
CONSTANT = "the map is constant or not finite, so it has no correlation"
Run = Callable[..., AuditReport]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    weights = digits.write_weights(tmp_path_factory.mktemp("weights"))

    def run(
        images: list[EncodedImage],
        explainers: list[dict[str, Any]],
        checks: list[dict[str, Any]],
        *,
        models: int = 1,
        plan: dict[str, Any] | None = None,
        maps: dict[str, bytes] | None = None,
        shard_images: int = 16,
        micro_batch: int = 8,
        **changes: Any,
    ) -> AuditReport:
        trained = digits.reference(weights)
        other = trained.model_copy(update={"weights": Weights(uri="random:1")})
        several = (NamedModel(name="trained", model=trained), NamedModel(name="fresh", model=other))
        request = AuditRequest.model_validate(
            {
                "model": trained if models == 1 else None,
                "models": several if models > 1 else (),
                "images": ImageBatchReference(digest="sha256:" + "0" * 64),
                "plan": {"seed": 7, "explainers": explainers, "checks": checks, **(plan or {})},
                **changes,
            }
        )
        return audit(
            request,
            images=images,
            access=digits.access(weights.parent),
            shard_images=shard_images,
            micro_batch=micro_batch,
            maps=maps,
        )

    return run


def dependence(report: AuditReport, explainer: str, model: str | None = None) -> Result:
    (one,) = (r for r in report.controls if (r.metric, r.explainer, r.model) == ("image_dependence", explainer, model))
    assert one.check == "explainer"
    return one


def summed_maps(classifier: Classifier, explainer: Explainer, images: list[EncodedImage]) -> list[list[float]]:
    """The map of each image by itself, channels summed."""
    found = []
    for image in images:
        pixels = (digits.digit_pixels()[0][image.index][None] * 255).round() / 255
        target = classifier.logits(pixels).argmax(1)
        streams = Streams(7, (image.digest,))
        found.append(explain(classifier, explainer, pixels, target, streams).maps[0].double().sum(0).flatten().tolist())
    return found


def zeros(count: int) -> list[EncodedImage]:
    """Digits of one class, numbered from 0."""
    chosen = [index for index, label in enumerate(digits.digit_pixels()[1].tolist()) if label == 0][:count]
    return [EncodedImage(place, f"{index}.png", digits.png(index)) for place, index in enumerate(chosen)]


def map_file(maps: np.ndarray) -> tuple[dict[str, Any], dict[str, bytes]]:
    data = save({"maps": maps.astype(np.float32)})
    return {"kind": "precomputed", "name": "uploaded", "maps": sha256(data)}, {sha256(data): data}


def test_values_are_the_mean_correlations_of_the_maps(run: Run, digit_classifier: Classifier) -> None:
    images = digits.encoded(6)
    report = run(images, [{"kind": "gradient"}], [CHEAP])
    for explainer in (Gradient(), Random()):
        expected = reference.mean_correlations(summed_maps(digit_classifier, explainer, images))
        assert dependence(report, explainer.kind).per_image == pytest.approx(expected, abs=2e-4)
    found = dependence(report, "gradient")
    assert (found.n, found.reasons) == (6, {})
    assert found.mean is not None
    assert abs(found.mean) < 0.5
    assert report.warnings == ()


def test_every_explainer_and_the_control_are_listed_for_any_plan(run: Run) -> None:
    explainers = [{"kind": "gradient"}, {"kind": "grad_cam"}, {"kind": "occlusion", "window": 16}]
    report = run(digits.encoded(3), explainers, [{"kind": "deletion", "grid": 3, "repeats": 1}])
    listed = [r.explainer for r in report.controls if r.metric == "image_dependence"]
    assert listed == ["gradient", "grad_cam", "occlusion", "random"]
    assert report.cost.checks.keys() == {"originals", "deletion"}


@pytest.mark.parametrize(("shard_images", "micro_batch"), [(1, 1), (5, 2), (40, 8)])
def test_neither_shards_nor_batches_matter(run: Run, shard_images: int, micro_batch: int) -> None:
    explainers = [{"kind": "gradient"}, {"kind": "smoothgrad", "samples": 2}]
    whole = run(digits.encoded(36), explainers, [CHEAP])
    cut = run(digits.encoded(36), explainers, [CHEAP], shard_images=shard_images, micro_batch=micro_batch)
    for explainer in ("gradient", "smoothgrad", "random"):
        one, other = dependence(whole, explainer), dependence(cut, explainer)
        assert other.reasons == one.reasons == dict.fromkeys(range(32, 36), NOT_COMPARED)
        pairs = zip(one.per_image[:32], other.per_image[:32], strict=True)
        assert all(a == pytest.approx(b, abs=2e-5) for a, b in pairs)
        assert (one.n, one.per_image[32:]) == (32, (None,) * 4)


def test_one_explainer_does_not_change_another(run: Run) -> None:
    alone = run(digits.encoded(4), [{"kind": "gradient"}], [CHEAP])
    together = run(digits.encoded(4), [{"kind": "saliency"}, {"kind": "gradient"}], [CHEAP, COLOR])
    assert dependence(together, "gradient").per_image == dependence(alone, "gradient").per_image


def test_a_copy_of_a_photo_is_the_same_image(run: Run) -> None:
    three = digits.encoded(3)
    copies = [EncodedImage(index, "copy", three[index - 3].data) for index in (3, 4)]
    with_copies = dependence(run([*three, *copies], [{"kind": "gradient"}], [CHEAP], shard_images=2), "gradient")
    assert with_copies.per_image == (
        *dependence(run(three, [{"kind": "gradient"}], [CHEAP]), "gradient").per_image,
        None,
        None,
    )
    assert with_copies.reasons == {3: "a copy of image 0; copies count once", 4: "a copy of image 1; copies count once"}
    only_copies = run([three[0], EncodedImage(1, "copy", three[0].data)], [{"kind": "gradient"}], [CHEAP])
    assert dependence(only_copies, "gradient").reasons[0] == NO_OTHER


def test_one_image_has_no_other(run: Run) -> None:
    report = run(digits.encoded(1), [{"kind": "gradient"}], [CHEAP])
    for explainer in ("gradient", "random"):
        found = dependence(report, explainer)
        assert (found.mean, found.ci, found.per_image, found.reasons) == (None, None, (None,), {0: NO_OTHER})
    assert report.warnings == ()


def test_images_that_cannot_be_used_do_not_take_a_place(run: Run) -> None:
    images = digits.encoded(40)
    images[0] = EncodedImage(0, "letter", b"Dear sir or madam")
    images[5] = EncodedImage(5, "letter", b"Dear sir or madam")
    found = dependence(run(images, [{"kind": "gradient"}], [CHEAP], shard_images=7), "gradient")
    # per_image follows the images that were used: indices 1 to 4 and 6 to 39
    assert found.n == 32
    assert found.reasons == dict.fromkeys(range(34, 40), NOT_COMPARED)


def test_maps_without_a_correlation_are_left_out_with_their_reason(run: Run) -> None:
    maps = np.random.default_rng(0).normal(size=(4, 1, 32, 32))
    maps[1] = 3.0
    contract, files = map_file(maps)
    found = dependence(run(digits.encoded(5), [contract], [CHEAP], maps=files), "uploaded")
    assert (found.per_image[1], found.per_image[4], found.n) == (None, None, 3)
    assert found.reasons == {1: CONSTANT, 4: NO_MAP}
    rest = maps[[0, 2, 3]].reshape(3, -1)
    expected = reference.mean_correlations(rest.tolist())
    assert [found.per_image[index] for index in (0, 2, 3)] == pytest.approx(expected, abs=2e-4)


def test_report_and_page_warn_of_a_map_that_is_the_same_for_every_image(run: Run) -> None:
    center = np.exp(-((np.arange(32) - 15.5) ** 2) / 50)
    noise = np.random.default_rng(1).normal(size=(5, 1, 32, 32))
    contract, files = map_file(center[:, None] * center + 0.02 * noise)
    report = run(digits.encoded(5), [contract, {"kind": "gradient"}], [CHEAP], maps=files)
    found = dependence(report, "uploaded")
    assert found.mean is not None
    assert 0.9 < found.mean < 1
    (warning,) = report.warnings
    assert (warning.code, warning.model, warning.explainer) == ("image_independent", None, "uploaded")
    assert f"correlate by {found.mean:.2f}" in warning.message
    assert image_independent(report.controls) == {(None, "uploaded")}
    page = render_html(report)
    assert warning.message in page
    assert "Read with care" in page


def test_deconvolution_without_max_pooling_is_found_out_though_it_looks_perfectly_stable(run: Run) -> None:
    """Its rectifiers ignore their input, so that its map is a picture of the class."""
    explainers = [{"kind": "deconvolution"}, {"kind": "gradient"}, {"kind": "grad_cam"}]
    report = run(zeros(8), explainers, [COLOR])
    assert {item.target for item in report.images.items} == {0}
    scores = {r.explainer: r.mean for r in report.results if r.metric == "pearson_score"}
    assert scores["deconvolution"] == pytest.approx(1, abs=1e-4)
    assert dependence(report, "deconvolution").mean == pytest.approx(1, abs=1e-3)
    assert image_independent(report.controls) == {(None, "deconvolution")}
    named = [warning.explainer for warning in report.warnings if warning.code == "image_independent"]
    assert named == ["deconvolution"]


def test_models_are_kept_separate(run: Run) -> None:
    images = zeros(4)
    report = run(images, [{"kind": "deconvolution"}, {"kind": "gradient"}], [CHEAP], models=2)
    one, other = (dependence(report, "gradient", name) for name in ("trained", "fresh"))
    assert one.per_image != other.per_image
    assert image_independent(report.controls) >= {("trained", "deconvolution")}
    assert ("trained", "gradient") not in image_independent(report.controls)
    assert {(w.model, w.explainer) for w in report.warnings} == image_independent(report.controls)


def test_of_several_targets_the_first_counts(run: Run) -> None:
    one = dependence(run(digits.encoded(4), [{"kind": "gradient"}], [CHEAP]), "gradient")
    three = run(digits.encoded(4), [{"kind": "gradient"}], [CHEAP], plan={"target": "top", "top_n": 3})
    assert dependence(three, "gradient").per_image == pytest.approx(one.per_image, abs=2e-5)


def test_under_a_stop_rule_the_first_images_are_those_audited_first(run: Run) -> None:
    policy = [{"check": "complexity", "explainer": "gradient", "metric": "sparseness", "at_least": 0.0}]
    report = run(
        digits.encoded(150), [{"kind": "gradient"}], [{"kind": "edda", "keep": [0.15]}, CHEAP],
        stop={"first_look": 40}, policy=[{**policy[0]}], shard_images=9,
    )  # fmt: skip
    assert report.stopping is not None
    assert 40 <= report.stopping.images_used < 150
    found = dependence(report, "gradient")
    compared = {
        item.index for item, value in zip(report.images.items, found.per_image, strict=True) if value is not None
    }
    assert compared == set(image_order(7, 150)[:32])
