"""Preprocessing that libraries configure: the pixels that their own processors give, on a photo that is not square."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from timm.data import create_transform
from torch import Tensor, nn

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import InvalidRequest
from auditcore.images.preprocess import to_pixels
from auditcore.images.reading import read_image
from auditcore.models.loaders.huggingface_preprocessing import preprocessing_of
from auditcore.models.loaders.timm import own_preprocessing

SQUARE = {"height": 32, "width": 32}
ONE_LEVEL = 1.01 / 255
"""Processors of transformers resample with torch, which rounds a few pixels otherwise than Pillow does, by a level."""

PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("ViTImageProcessor", {"size": SQUARE}),
    ("ViTImageProcessor", {"size": {"height": 24, "width": 48}, "do_normalize": False}),
    ("ViTImageProcessor", {"size": SQUARE, "do_rescale": False}),
    ("MobileViTImageProcessor", {"size": {"shortest_edge": 36}, "crop_size": SQUARE}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.875}),
    ("BitImageProcessor", {"size": {"shortest_edge": 32}, "crop_size": SQUARE}),
    # the crop is larger than the resized image, and an odd number of pixels is left over
    ("BitImageProcessor", {"size": {"shortest_edge": 21}, "crop_size": SQUARE}),
    ("LevitImageProcessor", {"size": {"shortest_edge": 32}, "crop_size": SQUARE}),
    ("EfficientNetImageProcessor", {"size": SQUARE}),
    (
        "EfficientNetImageProcessor",
        {"size": SQUARE, "rescale_offset": True, "include_top": False, "rescale_factor": 1 / 127.5},
    ),
    ("PoolFormerImageProcessor", {"size": {"shortest_edge": 32}, "crop_size": SQUARE}),
    ("DeiTImageProcessor", {"size": {"height": 40, "width": 40}, "crop_size": SQUARE}),
    ("MobileNetV2ImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": SQUARE}),
]

CONFIGS: list[dict[str, Any]] = [
    {"crop_mode": "center", "crop_pct": 0.875, "input_size": (3, 32, 32)},
    {"crop_mode": "center", "crop_pct": 0.9, "input_size": (3, 24, 48)},
    {"crop_mode": "squash", "crop_pct": 1.0, "input_size": (3, 32, 32)},
    {"crop_mode": "squash", "crop_pct": 0.95, "input_size": (3, 32, 48)},
    {"crop_mode": "border", "crop_pct": 1.0, "input_size": (3, 32, 32)},
    {"crop_mode": "border", "crop_pct": 0.9, "input_size": (3, 32, 40)},
]


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Smooth and noisy parts, 161 x 64 pixels."""
    values = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((161, 64), Image.Resampling.BICUBIC)


def seen(photo: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """What the model gets, normalized."""
    file = io.BytesIO()
    photo.save(file, "PNG")
    decoded = read_image(file.getvalue(), preprocessing, limits=Limits(), field="images.0")
    pixels = to_pixels(decoded, preprocessing, limits=Limits(), field="images.0")
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return (pixels - mean) / std


@pytest.mark.parametrize(("name", "settings"), PROCESSORS)
def test_processors_of_transformers(photo: Image.Image, name: str, settings: dict[str, Any]) -> None:
    processor = getattr(transformers, name)(**settings)
    expected = processor(photo, return_tensors="pt")["pixel_values"][0].float()
    # what is saved, and what people write by hand and leave to the defaults of the processor
    for config in (processor.to_dict(), {"image_processor_type": name, **settings}):
        preprocessing = preprocessing_of(config)
        found = seen(photo, preprocessing)
        assert found.shape == expected.shape
        levels = (found - expected).abs() * torch.tensor(preprocessing.std)[:, None, None]
        assert float(levels.max()) <= ONE_LEVEL
        # and nearly all pixels are the same
        assert float((levels > ONE_LEVEL / 100).float().mean()) < 0.1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("config", CONFIGS)
def test_transforms_of_timm(photo: Image.Image, config: dict[str, Any], interpolation: str) -> None:
    own = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25), "interpolation": interpolation, **config}
    module = nn.Identity()
    module.pretrained_cfg = own  # type: ignore[assignment]
    expected = create_transform(**own, is_training=False)(photo)
    torch.testing.assert_close(seen(photo, own_preprocessing(module)), expected, rtol=0, atol=1e-6)


def test_a_model_of_timm_for_gray_images_gets_one_mean() -> None:
    module = nn.Identity()
    module.pretrained_cfg = {"input_size": (1, 28, 28), "mean": (0.3, 0.4, 0.5), "std": (0.2, 0.2, 0.2)}  # type: ignore[assignment]
    found = own_preprocessing(module)
    assert found.shape == (1, 28, 28)
    assert found.mean == pytest.approx((0.4,))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"image_processor_type": "ViTImageProcessor", "do_thumbnail": True}, "'do_thumbnail'"),
        (
            {"image_processor_type": "ViTImageProcessor", "size": SQUARE, "ensure_multiple_of": 14},
            "'ensure_multiple_of'",
        ),
        ({"image_processor_type": "ViTImageProcessor", "size": {"depth": 3}}, "does not fit ViTImageProcessor"),
        ({"size": {"shortest_edge": 32}}, "does not say what the model sees"),
    ],
)
def test_what_is_not_understood_is_named(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        preprocessing_of(config)
    assert caught.value.field == "model.preprocessing"
