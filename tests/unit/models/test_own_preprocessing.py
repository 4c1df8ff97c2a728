"""Preprocessing that libraries configure: the pixels that their own processors give, on a photo that is not square."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
import torchvision
import transformers
from hypothesis import strategies
from PIL import Image
from timm.data import create_transform
from timm.data.transforms import ResizeKeepRatio
from torch import Tensor, nn

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import InvalidRequest
from auditcore.images.placement import placement
from auditcore.images.preprocess import to_pixels
from auditcore.images.reading import read_image
from auditcore.models.loaders.huggingface_preprocessing import preprocessing_of
from auditcore.models.loaders.timm import own_preprocessing
from auditcore.models.loaders.torchvision import own_preprocessing as preprocessing_of_weights

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
    ("BeitImageProcessor", {"size": SQUARE, "resample": 2}),
    ("SegformerImageProcessor", {"size": SQUARE, "do_center_crop": True, "crop_size": {"height": 24, "width": 24}}),
    ("SiglipImageProcessor", {"size": SQUARE, "image_mean": 0.5, "image_std": [0.25]}),
    ("PoolFormerImageProcessor", {"size": {"height": 36, "width": 36}, "crop_size": SQUARE}),
    ("PoolFormerImageProcessor", {"size": {"height": 36, "width": 45}, "crop_size": SQUARE}),
    # what a processor does not use has no effect, whatever others do with it
    ("MobileViTImageProcessor", {"size": {"shortest_edge": 36}, "crop_size": SQUARE, "do_normalize": True}),
    (
        "CLIPImageProcessor",
        {"size": {"shortest_edge": 36}, "crop_size": SQUARE, "crop_pct": 0.9, "do_flip_channel_order": True},
    ),
    ("ViTImageProcessor", {"size": SQUARE, "rescale_offset": True, "include_top": True}),
    ("EfficientNetImageProcessor", {"size": SQUARE, "rescale_offset": True, "do_rescale": False}),
    ("EfficientNetImageProcessor", {"size": SQUARE, "do_normalize": False}),
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


CROPPED = {"do_center_crop": True, "crop_size": SQUARE}


def test_a_processor_that_resamples_numbers_between_levels_is_off_by_their_rounding(photo: Image.Image) -> None:
    config = {"image_processor_type": "DINOv3ViTImageProcessor", "size": SQUARE}
    expected = transformers.DINOv3ViTImageProcessor(size=SQUARE)(photo, return_tensors="pt")["pixel_values"][0]
    preprocessing = preprocessing_of(config)
    levels = (seen(photo, preprocessing) - expected).abs() * torch.tensor(preprocessing.std)[:, None, None]
    assert float(levels.max()) <= ONE_LEVEL
    # bicubic resampling would leave values beyond black and white, which the model gets there and not here
    with pytest.raises(InvalidRequest, match="bicubic resampling after rescaling"):
        preprocessing_of({**config, "resample": 3})


SHORT = {"size": {"shortest_edge": 36}, "crop_size": 32, "do_center_crop": True}


@pytest.mark.parametrize(
    ("config", "model_type", "like"),
    [
        ({"image_processor_type": "CLIPImageProcessorFast", **SHORT}, "", "CLIPImageProcessor"),
        ({"image_processor_type": "LevitImageProcessorPil", **SHORT}, "", "LevitImageProcessor"),
        ({"feature_extractor_type": "ConvNextFeatureExtractor", "size": 32}, "", "ConvNextImageProcessor"),
        # without a name, the type of the model decides, as in files of many models on the hub
        ({"size": 32}, "convnextv2", "ConvNextImageProcessor"),
        ({"size": 32}, "deit", "DeiTImageProcessor"),
        ({"size": 36, "crop_size": 32}, "dinov2", "BitImageProcessor"),
    ],
)
def test_the_processor_is_found_as_transformers_finds_it(config: dict[str, Any], model_type: str, like: str) -> None:
    own = {key: value for key, value in config.items() if not key.endswith("_type")}
    named = getattr(transformers, like)(**own).to_dict()
    assert preprocessing_of(config, model_type=model_type) == preprocessing_of(named)


def test_one_mean_holds_for_all_channels_of_the_model() -> None:
    config = {"image_processor_type": "ViTImageProcessor", "size": SQUARE, "image_mean": [0.5], "image_std": [0.2]}
    assert preprocessing_of(config).mean == (0.5,) * 3
    assert preprocessing_of(config, channels=1).shape == (1, 32, 32)


def test_every_processor_of_a_classifier_is_read_or_refused_by_its_name() -> None:
    from transformers.models.auto import image_processing_auto, modeling_auto  # noqa: PLC0415 - seconds of imports

    refused = {}
    for model_type in modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        named = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type, {})
        name = named.get("torchvision") or named.get("pil")
        try:
            preprocessing_of({"do_resize": True}, model_type=model_type)
        except InvalidRequest as error:
            refused[name] = error.message
    # they cut before they resize, give images of any size, or give tokens instead of pixels
    assert "PerceiverImageProcessor" in refused["PerceiverImageProcessor"]
    assert not refused.keys() & {like for like, _ in PROCESSORS}
    assert len(refused) < 10


@pytest.mark.parametrize("name", ["vit_b_16", "swin_v2_b", "inception_v3", "regnet_y_16gf", "efficientnet_b1"])
def test_transforms_of_torchvision(photo: Image.Image, name: str) -> None:
    for weights in torchvision.models.get_model_weights(name):
        found = seen(photo, preprocessing_of_weights(name, weights.url))
        torch.testing.assert_close(found, weights.transforms()(photo), rtol=0, atol=1e-6)


def test_halves_of_a_pixel_are_rounded_as_timm_rounds_them() -> None:
    # 85 x 320 fits 224 x 224 with a width of 59.5
    narrow = Preprocessing(resize=224, fit="letterbox", crop=224)
    wide = Preprocessing(resize=224, fit="cover", crop=224)
    sizes = ResizeKeepRatio(224, longest=1.0), ResizeKeepRatio(224)
    for size, preprocessing, resize in (((85, 320), narrow, sizes[0]), ((325, 320), wide, sizes[1])):
        place = placement(size, preprocessing)
        assert (place.width, place.height) == resize(Image.new("RGB", size)).size


ANYTHING = strategies.one_of(
    strategies.none(),
    strategies.booleans(),
    strategies.integers(-5, 300),
    strategies.floats(),
    strategies.sampled_from(["", "bicubic", "224"]),
    strategies.lists(strategies.one_of(strategies.floats(), strategies.text(max_size=2)), max_size=4),
    strategies.dictionaries(
        strategies.sampled_from(["height", "width", "shortest_edge", "longest_edge", "max_height"]),
        strategies.one_of(strategies.none(), strategies.integers(-5, 300), strategies.floats(), strategies.text()),
        max_size=2,
    ),
)


@hypothesis.given(
    config=strategies.dictionaries(
        strategies.sampled_from(
            [
                *(
                    "size",
                    "crop_size",
                    "resample",
                    "rescale_factor",
                    "image_mean",
                    "image_std",
                    "crop_pct",
                    "do_resize",
                ),
                *("do_center_crop", "do_rescale", "do_normalize", "image_processor_type", "rescale_offset"),
            ]
        ),
        ANYTHING,
    ),
    model_type=strategies.sampled_from(["", "vit", "convnext", "poolformer", "levit", "efficientnet", "none"]),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_any_json_gives_a_preprocessing_or_one_error(config: dict[str, Any], model_type: str) -> None:
    # any other error fails the test
    with contextlib.suppress(InvalidRequest):
        assert min(preprocessing_of(config, model_type=model_type).std) > 0


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"image_processor_type": "ViTImageProcessor", "do_thumbnail": True}, "'do_thumbnail'"),
        ({"image_processor_type": "PerceiverImageProcessor"}, "PerceiverImageProcessor, which is not understood"),
        ({"image_processor_type": "OurImageProcessor", "size": SQUARE}, "'OurImageProcessor', which transformers"),
        (
            {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 32, "longest_edge": 48}},
            "gives images no fixed size",
        ),
        ({"size": {"max_height": 32, "max_width": 32}, **CROPPED}, "gives images no fixed size"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": 40, **CROPPED}, "is followed by one to"),
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
