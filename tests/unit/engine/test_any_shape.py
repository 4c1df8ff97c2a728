"""Every explainer and every check on inputs that are neither square nor of three channels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

import any_network
from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.explainers import default_explainers
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.errors import NoUsableImages
from auditcore.images.encoded import EncodedImage
from auditcore.report.page.html import render_html
from every_check import and_every_other_check

TARGET = "any_network:Network"
CHEAPER: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": 3},
    "gradient_shap": {"samples": 3},
    "integrated_gradients": {"steps": 4},
    "deep_lift": {"baselines": 1},
    "iba": {"steps": 2},
    "rise": {"masks": 20},
    "kernel_shap": {"segments": "superpixels", "count": 8, "samples": 40},
    "occlusion": {"window": 6},
    "ablation": {"grid": 4},
}
CHECKS: dict[str, dict[str, Any]] = {
    "sweep": {
        "levels": 3,
        "top_k": 50,
        "augmentations": [
            {"kind": kind, "interval": interval}
            for kind, interval in (
                *(
                    ("brightness", [-0.2, 0.2]),
                    ("contrast", [0.5, 1.5]),
                    ("hue", [-40, 40]),
                    ("saturation", [-0.2, 0.2]),
                ),
                *(("rotate", [-9, 9]), ("translate", [-0.1, 0.1]), ("scale", [0.9, 1.1]), ("horizontal_flip", [0, 1])),
                *(("gaussian_noise", [0, 0.1]), ("gaussian_blur", [0, 1]), ("jpeg_quality", [30, 100])),
            )
        ],
    },
    "deletion": {"grid": 4, "repeats": 2},
    "pixel_flipping": {"pixels_per_step": 40},
    "insertion_deletion": {"pixels_per_step": 160},
    "sensitivity": {"draws": 2},
    "infidelity": {"draws": 3},
    "randomization": {"stages": 2},
}


def explainers() -> list[dict[str, Any]]:
    """Every kind that computes maps, as cheap as it may be."""
    found = []
    for explainer in default_explainers():
        known = type(explainer).model_fields
        cheaper = {name: value for name, value in CHEAPER.get(explainer.kind, {}).items() if name in known}
        found.append(explainer.model_dump() | cheaper)
    return found


def run(
    channels: int,
    height: int,
    width: int,
    *,
    images: list[EncodedImage] | None = None,
    preprocessing: dict[str, Any] | None = None,
    pictures: dict[str, bytes] | None = None,
    **plan: Any,
) -> AuditReport:
    request = AuditRequest.model_validate(
        {
            "model": {
                "kind": "factory",
                "target": TARGET,
                "kwargs": {"channels": channels},
                "weights": {"uri": "random:3"},
                "preprocessing": {
                    "resize": None,
                    "crop": {"height": height, "width": width},
                    "mean": [0.5] * channels,
                    "std": [0.25] * channels,
                    **(preprocessing or {}),
                },
            },
            "images": {"kind": "batch", "digest": "sha256:" + "0" * 64},
            "plan": {"seed": 3, **plan},
        }
    )
    given = any_network.arrays(channels, height, width) if images is None else images
    return audit(request, images=given, access=AccessRules(factories=(TARGET,)), micro_batch=8, pictures=pictures)


def check_plan() -> list[dict[str, Any]]:
    kinds = [check.kind for check in and_every_other_check(())]
    return [{"kind": kind, **CHECKS.get(kind, {})} for kind in kinds]


def means(report: AuditReport) -> dict[str, list[float | None]]:
    """Variant of the sweep -> the means of all its metrics and of the explainers that apply to the model."""
    found: dict[str, list[float | None]] = {}
    for row in report.results:
        if row.check == "sweep" and row.explainer not in report.not_applicable:
            found.setdefault(str(row.variant), []).append(row.mean)
    return found


def reasons_of(report: AuditReport, variant: str) -> set[str]:
    """Why values of a variant are missing, of the explainers that apply to the model."""
    rows = (row for row in report.results if row.variant == variant and row.explainer not in report.not_applicable)
    return {reason for row in rows for reason in row.reasons.values()}


@pytest.mark.long
@pytest.mark.slow
def test_every_explainer_and_check_runs_on_six_bands_of_a_wide_image() -> None:
    report = run(6, 16, 40, explainers=explainers(), checks=check_plan())
    assert report.images.excluded == ()
    # a convolutional network has no attention; every other method has values
    assert set(report.not_applicable) == {"attention_rollout", "attn_lrp", "gradient_weighted_attention"}
    able = {one.label for one in default_explainers()} - set(report.not_applicable)
    assert {row.explainer for row in report.results} >= able - {"random"}
    assert all(len(row.reasons) == row.n_not_applicable == 3 for row in report.results if row.mean is None)
    found = means(report)
    for color in ("hue", "saturation", "jpeg_quality"):
        assert set(found[color]) == {None}
    assert reasons_of(report, "hue") == {
        "hue changes colors, and the model sees bands that are not red, green and blue"
    }
    for change in ("brightness", "contrast", "rotate", "translate", "scale", "gaussian_noise", "gaussian_blur"):
        assert None not in found[change], change
    assert "gradient" in render_html(report)


def test_a_gray_image_that_is_tall() -> None:
    report = run(
        1,
        40,
        16,
        explainers=[{"kind": "gradient"}, {"kind": "grad_cam"}, {"kind": "occlusion"}, {"kind": "rise", "masks": 20}],
        checks=[CHECKS["sweep"] | {"kind": "sweep"}, {"kind": "deletion", "repeats": 1}, {"kind": "localization"}],
    )
    found = means(report)
    assert set(found["hue"]) == {None}
    assert None not in found["jpeg_quality"]
    assert reasons_of(report, "hue") == {"hue changes colors, and the model sees gray"}
    # 20 x 8 cells: one random order, and both orders of four explainers; the emptied image passes once
    assert report.cost.checks["deletion"].forward_images == 3 * (1 + 2 * 4) * (20 * 8 - 1) + 1


def test_files_of_another_number_of_bands_are_left_out_with_the_reason() -> None:
    with pytest.raises(NoUsableImages, match="the image has 4 bands, and the model takes 2 bands"):
        run(
            2,
            16,
            24,
            images=any_network.arrays(4, 16, 24),
            explainers=[{"kind": "gradient"}],
            checks=[{"kind": "complexity"}],
        )


def test_pictures_show_the_bands_that_are_named() -> None:
    pictures: dict[str, bytes] = {}
    plan = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "complexity"}]}
    report = run(6, 8, 12, preprocessing={"pictured": [3, 5, 0]}, pictures=pictures, **plan)
    photo = next(one for one in report.artifacts if one.explainer is None)
    values = np.load(io.BytesIO(any_network.arrays(6, 8, 12)[0].data))
    drawn = np.asarray(Image.open(io.BytesIO(pictures[photo.digest])))
    assert np.abs(drawn - 255 * values[:, :, [3, 5, 0]]).max() <= 0.51


@pytest.mark.parametrize(
    ("channels", "pictured", "words"),
    [(6, [0, 1, 6], "names channel 6, and the last of 6 is 5"), (3, [2, 1, 0], "chooses among bands")],
)
def test_bands_that_cannot_be_pictured_are_refused(channels: int, pictured: list[int], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        run(channels, 8, 8, preprocessing={"pictured": pictured})
