"""Audits of tensors ready for the model: the numbers of the same photos, and the probabilities of the library."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image

import digits
from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.engine.shard import READY_TENSORS
from auditcore.errors import DigestMismatch, InvalidRequest, UndecodableImage, UnsafeReference
from auditcore.images.batch import decode_batch

COUNT = 3
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "models-and-images.md"
PLAN: dict[str, Any] = {
    "target": "label",
    "explainers": [{"kind": "gradient"}, {"kind": "grad_cam"}, {"kind": "integrated_gradients", "steps": 4}],
    "checks": [
        {
            "kind": "sweep",
            "levels": 3,
            "top_k": 50,
            "augmentations": [
                {"kind": "brightness", "interval": [-0.2, 0.2]},
                {"kind": "hue", "interval": [-40, 40]},
                {"kind": "rotate", "interval": [-9, 9]},
            ],
        },
        {"kind": "edda", "keep": [0.15], "color": "mean"},
        {"kind": "complexity"},
        {"kind": "localization"},
    ],
}
"""Nothing is drawn at random, not even an order among equals: draws belong to the digest of a file, which differs."""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return digits.write_weights(tmp_path)


def normalized(count: int) -> torch.Tensor:
    pixels = decode_batch(digits.encoded(count), digits.PREPROCESSING, digits.access(Path("/")).limits).pixels
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (digits.PREPROCESSING.mean, digits.PREPROCESSING.std)
    )
    return (pixels - mean) / std


def request(weights: Path, images: dict[str, Any], **changes: Any) -> AuditRequest:
    model = digits.reference(weights).model_dump()
    return AuditRequest.model_validate({"model": model, "images": images, "plan": PLAN, **changes})


def numbers(report: AuditReport) -> list[dict[str, Any]]:
    """Values of every image, without those of the control, whose maps are drawn at random."""
    shown = {"check", "explainer", "metric", "variant", "per_image", "reasons"}
    return [row.model_dump(include=shown) for row in report.results if row.explainer != "random"]


def test_the_numbers_are_those_of_the_same_photos(tmp_path: Path, weights: Path) -> None:
    _, labels = digits.digit_pixels()
    known: dict[str, list[Any]] = {
        "labels": labels[:COUNT].tolist(),
        "boxes": [[{"x0": 4, "y0": 4, "x1": 20, "y1": 28}]] * COUNT,
        "masks": [[], [{"polygons": [[4, 4, 20, 4, 20, 28]]}], []],
    }
    uris = []
    for index in range(COUNT):
        path = tmp_path / f"{index}.png"
        path.write_bytes(digits.png(index))
        of_image = {"label": known["labels"][index], "boxes": known["boxes"][index], "masks": known["masks"][index]}
        uris.append({"uri": path.as_uri(), **of_image})
    path = tmp_path / "photos.safetensors"
    safetensors.torch.save_file({"pixel_values": normalized(COUNT)}, path)
    rules = digits.access(tmp_path)
    photos = audit(request(weights, {"kind": "uris", "uris": uris}), access=rules, micro_batch=4)
    drawn: dict[str, bytes] = {}
    ready = request(
        weights,
        {
            "kind": "tensors",
            "uri": path.as_uri(),
            "mean": digits.PREPROCESSING.mean,
            "std": digits.PREPROCESSING.std,
            "names": [f"{index}.png" for index in range(COUNT)],
            **known,
        },
    )
    report = audit(ready, access=rules, micro_batch=4, pictures=drawn)
    assert numbers(report) == numbers(photos)
    assert [item.name for item in report.images.items] == ["0.png", "1.png", "2.png"]
    assert READY_TENSORS in report.notes
    assert READY_TENSORS not in photos.notes
    assert len({one.digest for one in report.artifacts if not one.explainers}) == COUNT


@pytest.mark.parametrize(
    ("changes", "error", "field", "said"),
    [
        ({"labels": [1, 2]}, InvalidRequest, "images.labels", "labels has 2 entries for 3 images"),
        ({"masks": [[]]}, InvalidRequest, "images.masks", "masks has 1 entries for 3 images"),
        ({"names": ["a"]}, UndecodableImage, "images.uri", "names has 1 entries for 3 images"),
        ({"tensor": "y"}, UndecodableImage, "images.uri", "has no tensor 'y'; it has 'pixel_values'"),
        ({"sha256": "sha256:" + "0" * 64}, DigestMismatch, "images.sha256", "expected sha256:000"),
        ({"uri": "file:///etc/passwd"}, UnsafeReference, "images.uri", "outside the allowed folders"),
        (
            {"mean": [0.1] * 3, "std": [0.4] * 3},
            UndecodableImage,
            "model.preprocessing",
            "the tensor was normalized by the mean [0.1, 0.1, 0.1], and the model by the mean [0.3, 0.3, 0.3]",
        ),
    ],
)
def test_a_mistake_names_its_field(
    tmp_path: Path, weights: Path, changes: dict[str, Any], error: type[Exception], field: str, said: str
) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"pixel_values": normalized(COUNT)}, path)
    images = {"kind": "tensors", "uri": path.as_uri(), **changes}
    plan = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "complexity"}]}
    with pytest.raises(error, match=said.replace("[", r"\[")) as caught:
        audit(request(weights, images, plan=plan), access=digits.access(tmp_path))
    assert caught.value.field == field  # type: ignore[attr-defined]


def test_the_page_on_models_and_images_gives_the_probabilities_of_the_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        num_labels=5,
    )  # fmt: skip
    model, images = tmp_path / "models" / "vit", tmp_path / "images"
    images.mkdir()
    transformers.ViTForImageClassification(config).save_pretrained(model)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_std=[0.4] * 3).save_pretrained(model)
    for name in ("coffee", "chelsea"):
        Image.fromarray(torch.randint(0, 256, (50, 70, 3), dtype=torch.uint8).numpy()).save(images / f"{name}.png")
    page = PAGE.read_text(encoding="utf-8").partition("### Tensors of your own preprocessing")[2].partition("\n## ")[0]
    program, body = re.findall(r"```(?:python|json)\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {}
    exec(program.replace("/srv", str(tmp_path)), found)  # noqa: S102 - our own page
    assert "indices=" in capsys.readouterr().out
    with torch.inference_mode():
        expected = found["model"](**found["inputs"]).logits.softmax(dim=1)
    report = audit(
        AuditRequest.model_validate_json(body.replace("/srv", str(tmp_path))),
        access=AccessRules(file_roots=(tmp_path,)),
    )
    assert [(item.name, item.label) for item in report.images.items] == [("coffee", 1), ("chelsea", None)]
    for item, probabilities in zip(report.images.items, expected, strict=True):
        assert item.target == int(probabilities.argmax())
        assert item.probability == pytest.approx(float(probabilities.max()), abs=1e-5)


def test_tensors_that_do_not_fit_a_model_of_several_name_it(tmp_path: Path, weights: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"x": normalized(1)}, path)
    fits = digits.reference(weights).model_dump()
    other = fits | {"preprocessing": {"resize": 16, "crop": 16}}
    both = [{"name": "fits", "model": fits}, {"name": "other", "model": other}]
    images = {"kind": "tensors", "uri": path.as_uri()}
    with pytest.raises(UndecodableImage, match="is 32 x 32 pixels, and the model takes 16 x 16 pixels") as caught:
        audit(request(weights, images, model=None, models=both), access=digits.access(tmp_path))
    assert caught.value.field == "models.1.model.preprocessing"


def test_six_channels_of_a_wide_image(tmp_path: Path) -> None:
    values = torch.randn(2, 6, 16, 40, generator=torch.Generator().manual_seed(0)).clamp(-4, 4)
    path = tmp_path / "bands.safetensors"
    safetensors.torch.save_file({"x": values}, path)
    # -4 is black, 4 is white
    fed = Preprocessing.model_validate(
        {"resize": None, "crop": {"height": 16, "width": 40}, "mean": [0.5] * 6, "std": [0.125] * 6}
    )
    drawn: dict[str, bytes] = {}
    report = audit(
        AuditRequest.model_validate(
            {
                "model": {
                    "kind": "factory",
                    "target": "any_network:Network",
                    "kwargs": {"channels": 6},
                    "weights": {"uri": "random:3"},
                    "preprocessing": json.loads(fed.model_dump_json()),
                },
                "images": {"kind": "tensors", "uri": path.as_uri()},
                "plan": {
                    "explainers": [{"kind": "gradient"}, {"kind": "grad_cam"}, {"kind": "occlusion", "window": 6}],
                    "checks": [
                        {"kind": "deletion", "grid": 4, "repeats": 1},
                        {**PLAN["checks"][0]},
                        {"kind": "edda", "keep": [0.15]},
                    ],
                },
            }
        ),
        access=AccessRules(factories=("any_network:Network",), file_roots=(tmp_path,)),
        micro_batch=8,
        pictures=drawn,
    )
    assert report.images.excluded == ()
    missing = {row.variant for row in report.results if row.mean is None}
    # what is missing is what red, green and blue are needed for
    missing = [row for row in report.results if row.mean is None]
    assert {row.variant for row in missing} == {"hue", "mean"}
    assert all("hue changes colors" in reason for row in missing for reason in row.reasons.values())
    assert drawn
