"""What preprocessor_config.json of a snapshot does to a photo, read in full."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from auditcore.contracts.preprocessing import Channels, Preprocessing, Size
from auditcore.errors import InvalidRequest
from auditcore.sources.registries.huggingface import PREPROCESSOR

_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers, as preprocessor_config.json writes them."""

_KNOWN = frozenset(
    {
        *("do_resize", "size", "resample", "crop_pct", "do_center_crop", "crop_size"),
        *("do_rescale", "rescale_factor", "rescale_offset", "do_normalize", "image_mean", "image_std", "include_top"),
        *("do_flip_channel_order",),
    }
)
"""Keys that are understood here."""

_WITHOUT_EFFECT = frozenset(
    {
        *("image_processor_type", "feature_extractor_type", "processor_class", "auto_map", "_valid_processor_keys"),
        # files are converted to RGB in any case; labels are no subject of a classifier of whole images
        *("do_convert_rgb", "do_reduce_labels", "data_format", "input_data_format", "return_tensors", "device"),
    }
)

_PROCESSOR = re.compile(r"(?:[A-Za-z0-9]+)(?:ImageProcessor|FeatureExtractor)(?:Fast)?")
_NO_MEAN: Channels = (0.0, 0.0, 0.0)
_NO_STD: Channels = (1.0, 1.0, 1.0)
_LEVIT_SCALE = 256 / 224
_SQUASHED_FROM_PX = 384
"""ConvNeXt's processor resizes both sides from this size on, and crops smaller ones."""


def preprocessing_of(given: Mapping[str, Any]) -> Preprocessing:
    """Return what a config does, with the defaults of the processor that it names.

    Args:
        given: The parsed preprocessor_config.json.

    Raises:
        InvalidRequest: The config is missing, has a key that is not understood, or gives no fixed size.
    """
    name = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
    config = _with_defaults(name, given)
    unknown = sorted(key for key in config.keys() - _KNOWN - _WITHOUT_EFFECT if config[key])
    if unknown:
        msg = f"{PREPROCESSOR} has the key {unknown[0]!r}, which is not understood here; give `preprocessing`"
        raise InvalidRequest(msg, field="model.preprocessing")
    mean, std = _normalization(config)
    flipped = bool(config.get("do_flip_channel_order"))
    fields = {
        **_sizes(name, config),
        "mean": mean[::-1] if flipped else mean,
        "std": std[::-1] if flipped else std,
        "colors": "bgr" if flipped else None,
        "crop_offset": "floor",
        # a snapshot whose crop is larger than its resized images surrounds them with black
        "pad": 0.0,
        "interpolation": _RESAMPLING.get(config.get("resample", 2)),
    }
    try:
        return Preprocessing.model_validate(fields)
    except ValidationError as error:
        said = error.errors()[0]
        msg = (
            f"{PREPROCESSOR} of the snapshot is missing or does not say what the model sees ({said['msg']}); give "
            "`preprocessing`"
        )
        raise InvalidRequest(msg, field="model.preprocessing") from error


def _with_defaults(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config, completed by the defaults of its processor where transformers has one of that name."""
    if not given or not _PROCESSOR.fullmatch(name):
        return given
    import transformers  # noqa: PLC0415 - an extra

    kind = getattr(transformers, name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast"), None)
    if kind is None:
        return given
    try:
        completed: Mapping[str, Any] = kind(**given).to_dict()
    # each processor raises errors of its own for values that it cannot use
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"{PREPROCESSOR} does not fit {name}: {first_line}; give `preprocessing`"
        raise InvalidRequest(msg, field="model.preprocessing") from error
    return {"do_normalize": False, **completed}


def _sizes(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields `resize`, `fit` and `crop`."""
    crop = _size(config.get("crop_size")) if config.get("do_center_crop") else None
    size = config.get("size") if config.get("do_resize", True) else None
    if isinstance(size, int):
        # old configs: one number means both sides, unless a crop follows
        size = {"shortest_edge": size} if crop is not None else {"height": size, "width": size}
    given = size if isinstance(size, Mapping) else {}
    both, shortest = _size(given), given.get("shortest_edge")
    if isinstance(shortest, int):
        return _by_shorter_side(name, config, shortest, crop)
    if name.startswith("PoolFormer") and config.get("crop_pct") and isinstance(both, int):
        return {"resize": int(both / config["crop_pct"]), "crop": crop}
    if both is not None:
        return {"resize": both, "fit": "squash", "crop": crop}
    longest = given.get("longest_edge")
    return {"resize": longest, "fit": "longer" if longest else "shorter", "crop": crop}


def _by_shorter_side(name: str, config: Mapping[str, Any], shortest: int, crop: Size | int | None) -> dict[str, Any]:
    """The same for a config that gives the shorter side, with what some processors make of it."""
    if name.startswith("ConvNext"):
        if shortest >= _SQUASHED_FROM_PX:
            return {"resize": shortest, "fit": "squash", "crop": crop}
        return {"resize": int(shortest / config.get("crop_pct", 224 / 256)), "crop": crop or shortest}
    if name.startswith("Levit"):
        shortest = int(_LEVIT_SCALE * shortest)
    elif config.get("crop_pct"):
        shortest = int(shortest / config["crop_pct"])
    return {"resize": shortest, "crop": crop}


def _size(size: Any) -> Size | int | None:  # noqa: ANN401 - whatever JSON holds
    """A size with both sides; one number where they are equal, None where they are not both given."""
    if isinstance(size, int):
        return size
    if not isinstance(size, Mapping):
        return None
    height, width = size.get("height"), size.get("width")
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    return height if height == width else Size(height=height, width=width)


def _normalization(config: Mapping[str, Any]) -> tuple[Channels, Channels]:
    """Mean and standard deviation of values in [0, 1].

    The processor computes (255 p f + o - m) / s from p in [0, 1], with the factor f and the offset o.
    """
    factor = 255 * float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 255.0
    offset = -1.0 if config.get("rescale_offset") else 0.0
    mean, std = _NO_MEAN, _NO_STD
    if config.get("do_normalize", True):
        mean, std = _channels(config.get("image_mean"), mean), _channels(config.get("image_std"), std)
    means = tuple((own - offset) / factor for own in mean)
    stds = tuple(own / factor for own in std)
    if config.get("include_top"):
        # EfficientNet's processor divides by the deviation a second time
        again = _channels(config.get("image_std"), _NO_STD)
        stds = tuple(own * more for own, more in zip(stds, again, strict=True))
    return means, stds


def _channels(values: Any, plain: Channels) -> Channels:  # noqa: ANN401 - whatever JSON holds
    if isinstance(values, int | float):
        return (float(values),) * len(plain)
    return tuple(float(value) for value in values) if isinstance(values, list | tuple) and values else plain
