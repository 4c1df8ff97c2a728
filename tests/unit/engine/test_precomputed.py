"""Uploaded maps are audited like those of an explainer, by every check that needs only the map of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

import digits
from auditcore.auditing import audit
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.capabilities import NO_COPIES
from auditcore.contracts.images import Box
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.errors import DigestMismatch, UnreachableResource
from auditcore.explainers.registry import explain
from auditcore.images.encoded import EncodedImage
from auditcore.images.uploaded_maps import NO_MAP
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

METHOD = {"kind": "integrated_gradients", "steps": 8}
STILL: list[dict[str, Any]] = [
    {"kind": "deletion", "grid": 4, "repeats": 2},
    {"kind": "edda"},
    {"kind": "pixel_flipping", "pixels_per_step": 64},
    {"kind": "insertion_deletion", "pixels_per_step": 256},
    {"kind": "road", "shares": [0.3, 0.6]},
    {"kind": "infidelity", "draws": 3},
    {"kind": "localization"},
    {"kind": "complexity"},
]
MOVING: list[dict[str, Any]] = [
    {"kind": "sweep", "augmentations": [{"kind": "brightness", "interval": [-0.2, 0.2]}], "levels": 3},
    {"kind": "ssim_sweep", "changes": [{"augmentation": {"kind": "rotate"}, "values": [5]}]},
    {"kind": "sensitivity", "draws": 2},
    {"kind": "randomization", "stages": 1},
]


def images(count: int = 3) -> list[EncodedImage]:
    box = (Box(x0=8.0, y0=8.0, x1=24.0, y1=24.0),)
    return [EncodedImage(one.index, one.name, one.data, one.label, box) for one in digits.encoded(count)]


def own_maps(classifier: Classifier, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """What the method gives for the images as they were encoded, and the classes explained."""
    pixels = (digits.digit_pixels()[0][:count] * 255).round() / 255
    targets = classifier.logits(pixels).argmax(1)
    contract = AuditRequest.model_validate(request({"kind": "random"}, STILL, METHOD)).plan.explainers[1]  # type: ignore[union-attr]
    streams = Streams(0, tuple(sha256(one.data) for one in images(count)))
    return explain(classifier, contract, pixels, targets, streams).maps.contiguous().numpy(), targets.numpy()


def request(first: dict[str, Any], checks: list[dict[str, Any]], *more: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"kind": "demo"},
        "images": {"kind": "batch", "digest": "sha256:" + "0" * 64},
        "plan": {"explainers": [first, *more], "checks": checks},
    }


def run(tmp_path: Any, explainer: dict[str, Any], checks: list[dict[str, Any]], **options: Any) -> AuditReport:
    document = request(explainer, checks)
    document["model"] = digits.reference(digits.write_weights(tmp_path)).model_dump(mode="json")
    asked = AuditRequest.model_validate(document)
    given = options.pop("images", None) or images()
    return audit(asked, images=given, access=digits.access(tmp_path), micro_batch=8, **options)


def values(report: AuditReport, explainer: str) -> dict[tuple[str, str, str | None], tuple[float | None, ...]]:
    return {(one.check, one.metric, one.variant): one.per_image for one in report.results if one.explainer == explainer}


def test_the_scores_are_those_of_the_method_that_made_the_maps(tmp_path: Any, digit_classifier: Classifier) -> None:
    maps, targets = own_maps(digit_classifier)
    data = save({"maps": maps, "targets": targets})
    theirs = values(run(tmp_path, METHOD, STILL), "integrated_gradients")
    # maps of this method are ordered by magnitude, which a file of maps does not tell
    uploaded = {"kind": "precomputed", "maps": sha256(data), "map_kind": "attribution"}
    ours = values(run(tmp_path, uploaded, STILL, maps={sha256(data): data}), "precomputed")
    assert {key for key in theirs if key[0] != "explainer"} == set(ours)
    for key, found in ours.items():
        assert found == pytest.approx(theirs[key], rel=1e-4, abs=1e-6), key
    assert sum(value is not None for found in ours.values() for value in found) > 60


def test_checks_that_explain_copies_have_a_reason_why_they_cannot_run(
    tmp_path: Any, digit_classifier: Classifier
) -> None:
    data = save({"maps": own_maps(digit_classifier)[0]})
    report = run(tmp_path, {"kind": "precomputed", "maps": sha256(data)}, MOVING, maps={sha256(data): data})
    found = [one for one in report.results if one.explainer == "precomputed"]
    assert {one.check for one in found} == {"sweep", "ssim_sweep", "sensitivity", "randomization"}
    for one in found:
        assert set(one.per_image) == {None}
        assert set(one.reasons.values()) == {NO_COPIES}
    # the control still shows the level of chance
    assert any(one.explainer == "random" and one.mean is not None for one in report.controls)


def test_an_image_without_a_map_is_undefined_in_every_check_with_the_reason(
    tmp_path: Any, digit_classifier: Classifier
) -> None:
    maps, _ = own_maps(digit_classifier)
    digests = [sha256(one.data) for one in images()]
    data = save({digests[0]: maps[0], digests[2]: maps[2]})
    report = run(tmp_path, {"kind": "precomputed", "maps": sha256(data)}, STILL, maps={sha256(data): data})
    found = [one for one in report.results if one.explainer == "precomputed"]
    assert found
    for one in found:
        assert one.per_image[1] is None, one.check
        assert one.reasons[1] == NO_MAP
        assert one.n <= 2


def test_maps_of_another_class_are_undefined(tmp_path: Any, digit_classifier: Classifier) -> None:
    maps, targets = own_maps(digit_classifier)
    targets = targets.copy()
    targets[0] = (targets[0] + 1) % 10
    data = save({"maps": maps, "targets": targets})
    report = run(tmp_path, {"kind": "precomputed", "maps": sha256(data)}, STILL[:2], maps={sha256(data): data})
    for one in report.results:
        if one.explainer == "precomputed":
            assert "the uploaded map explains class" in one.reasons[0]
            assert one.per_image[1] is not None


def test_pictures_of_uploaded_maps_are_drawn(tmp_path: Any, digit_classifier: Classifier) -> None:
    data = save({"maps": own_maps(digit_classifier)[0]})
    pictures: dict[str, bytes] = {}
    report = run(
        tmp_path,
        {"kind": "precomputed", "name": "shown", "maps": sha256(data)},
        STILL[-1:],
        maps={sha256(data): data},
        pictures=pictures,
    )
    assert {one.explainers for one in report.artifacts} == {(), ("shown",)}


def test_maps_that_were_not_given_or_are_others_are_refused(tmp_path: Any) -> None:
    data = save({"maps": np.zeros((3, 32, 32), np.float32)})
    explainer = {"kind": "precomputed", "maps": sha256(data)}
    with pytest.raises(UnreachableResource, match="pass their bytes"):
        run(tmp_path, explainer, STILL[:1])
    with pytest.raises(DigestMismatch):
        run(tmp_path, explainer, STILL[:1], maps={sha256(data): b"others"})


def test_one_file_serves_every_shard(tmp_path: Any, digit_classifier: Classifier) -> None:
    maps, _ = own_maps(digit_classifier, 5)
    data = save({"maps": maps.astype(np.float64)})
    explainer = {"kind": "precomputed", "maps": sha256(data)}
    whole = run(tmp_path, explainer, STILL[:2], maps={sha256(data): data}, images=images(5))
    parts = run(tmp_path, explainer, STILL[:2], maps={sha256(data): data}, images=images(5), shard_images=2)
    for key, found in values(whole, "precomputed").items():
        assert values(parts, "precomputed")[key] == pytest.approx(found, abs=1e-6)
    assert torch.from_numpy(maps).abs().max() > 0
