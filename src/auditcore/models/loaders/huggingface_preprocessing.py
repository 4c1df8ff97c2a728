"""What the image processor of a snapshot does to a photo, read in full."""

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

_OF_ALL = frozenset(
    {
        *("do_resize", "size", "resample", "do_center_crop", "crop_size"),
        *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
    }
)
"""Keys that every processor uses."""

_OF_SOME: Mapping[str, frozenset[str]] = {
    "crop_pct": frozenset({"ConvNextImageProcessor", "PoolFormerImageProcessor"}),
    "rescale_offset": frozenset({"EfficientNetImageProcessor"}),
    "include_top": frozenset({"EfficientNetImageProcessor"}),
    "do_flip_channel_order": frozenset({"MobileViTImageProcessor"}),
}
"""Keys that some processors use -> which ones. The others ignore them."""

_UNUSED: Mapping[str, frozenset[str]] = {
    "MobileViTImageProcessor": frozenset({"do_normalize"}),
    "SegformerImageProcessor": frozenset({"do_center_crop"}),
}
"""Processors -> keys of all processors that they ignore."""

_WITHOUT_EFFECT = frozenset(
    {
        *("image_processor_type", "feature_extractor_type", "processor_class", "auto_map", "_valid_processor_keys"),
        # files are converted to RGB in any case; labels are no subject of a classifier of whole images
        *("do_convert_rgb", "do_reduce_labels", "data_format", "input_data_format", "return_tensors", "device"),
        # how one number in `size` is meant, which the completed `size` says; and how many images are processed at once
        *("default_to_square", "disable_grouping"),
    }
)

_STEPS = (
    *("preprocess", "_preprocess_image_like_inputs", "_prepare_image_like_inputs", "process_image", "_preprocess"),
    *("resize", "center_crop", "rescale", "normalize", "rescale_and_normalize", "_standardize_kwargs"),
)
"""Methods by which a processor of transformers does something else than resize, crop, rescale and normalize."""

_UNDERSTOOD = frozenset(
    {
        *("BeitImageProcessor", "ConvNextImageProcessor", "DINOv3ViTImageProcessor", "EfficientNetImageProcessor"),
        *("LevitImageProcessor", "MobileNetV2ImageProcessor", "MobileViTImageProcessor", "PoolFormerImageProcessor"),
        "SegformerImageProcessor",
    }
)
"""Processors with steps of their own whose pixels are computed here too."""

_PROCESSOR = re.compile(r"[A-Za-z0-9_]+(?:ImageProcessor|FeatureExtractor)(?:Fast|Pil)?")
_NO_MEAN: Channels = (0.0,)
_NO_STD: Channels = (1.0,)
_LEVIT_SCALE = 256 / 224
_SQUASHED_FROM_PX = 384
"""ConvNeXt's processor resizes both sides from this size on, and crops smaller ones."""

FIELD = "model.preprocessing"


def preprocessing_of(given: Mapping[str, Any], *, model_type: str = "", channels: int = 3) -> Preprocessing:
    """Return what the image processor of a snapshot does, with the defaults of its class.

    The class is found as `AutoImageProcessor` finds it: by its name, or by the type of the model.

    Args:
        given: The parsed config of the processor.
        model_type: `model_type` of the model's config.
        channels: Channels that the model takes; one mean for all of them is repeated.

    Raises:
        InvalidRequest: The config is missing, has a key that is not understood, names a processor that is not
            understood, or gives no fixed size.
    """
    name = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
    kind = _class_of(name, model_type) if given else None
    family = "" if kind is None else kind.__name__.removesuffix("Pil")
    config = {key: value for key, value in _completed(kind, given).items() if value is not None}
    for key in sorted(config):
        if key in _OF_SOME and family not in _OF_SOME[key]:
            del config[key]
        elif key in _UNUSED.get(family, ()):
            config[key] = False
        elif config[key] and key not in _OF_ALL | _OF_SOME.keys() | _WITHOUT_EFFECT:
            msg = f"has the key {key!r}, which is not understood here"
            raise _refused(msg)
    try:
        fields = _fields(family, config, channels)
        return Preprocessing.model_validate(fields)
    # a JSON file can hold any value for any key
    except (ValidationError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        msg = f"is missing or does not say what the model sees ({said})"
        raise _refused(msg) from error


def _refused(what: str) -> InvalidRequest:
    return InvalidRequest(f"{PREPROCESSOR} of the snapshot {what}; give `preprocessing`", field=FIELD)


def _class_of(name: str, model_type: str) -> Any | None:  # noqa: ANN401 - transformers publishes no types
    """The class of transformers that a config names, or the one of a type of model; None if there is no name.

    Raises:
        InvalidRequest: The class is not known, or does something that is not understood.
    """
    from transformers import BaseImageProcessor  # noqa: PLC0415 - an extra
    from transformers.models.auto import image_processing_auto as known  # noqa: PLC0415 - an extra

    wanted = name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    if not wanted:
        of_type = known.IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type, {})  # type: ignore[attr-defined]
        wanted = of_type.get("torchvision") or of_type.get("pil") or ""
    if not wanted:
        return None
    found = known.get_image_processor_class_from_name(wanted) if _PROCESSOR.fullmatch(wanted) else None
    if not isinstance(found, type) or not issubclass(found, BaseImageProcessor):
        msg = f"names the processor {name!r}, which transformers does not have"
        raise _refused(msg)
    backend = next((one for one in found.__mro__ if one.__module__ == "transformers.image_processing_backends"), None)
    plain = backend is not None and all(getattr(found, step) is getattr(backend, step) for step in _STEPS)
    if not plain and found.__name__.removesuffix("Pil") not in _UNDERSTOOD:
        msg = f"means the processor {found.__name__}, which is not understood here"
        raise _refused(msg)
    return found


def _completed(kind: Any | None, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - transformers publishes no types
    """The config, completed by the defaults of its processor."""
    if kind is None:
        return dict(given)
    try:
        completed: dict[str, Any] = kind(**given).to_dict()
    # each processor raises errors of its own for values that it cannot use
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"does not fit {kind.__name__}: {first_line}"
        raise _refused(msg) from error
    # what is absent there is None, for no, and not the default of other processors
    return {"do_resize": False, "do_rescale": False, "do_normalize": False, **completed}


def _fields(family: str, config: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Fields of `Preprocessing`."""
    mean, std = _normalization(config, channels)
    interpolation = _RESAMPLING[config.get("resample", 2)]
    if family == "DINOv3ViTImageProcessor" and interpolation not in {"nearest", "bilinear", "box"}:
        msg = f"{interpolation} resampling after rescaling leaves values below 0 and above 1"
        raise ValueError(msg)
    return {
        **_sizes(family, config),
        "mean": mean,
        "std": std,
        "colors": "bgr" if config.get("do_flip_channel_order") else None,
        "crop_offset": "floor",
        # a snapshot whose crop is larger than its resized images surrounds them with black
        "pad": 0.0,
        "interpolation": interpolation,
    }


def _sizes(family: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields `resize`, `fit` and `crop`."""
    crop = _size(config.get("crop_size")) if config.get("do_center_crop") else None
    if not config.get("do_resize", True):
        return {"resize": None, "crop": crop}
    size = config.get("size")
    if isinstance(size, int):
        # old configs: one number means both sides, unless a crop follows
        size = {"shortest_edge": size} if crop is not None else {"height": size, "width": size}
    given = {key: value for key, value in size.items() if value is not None} if isinstance(size, Mapping) else {}
    if given.keys() == {"height", "width"}:
        both = _size(given)
        if family == "PoolFormerImageProcessor":
            return _enlarged(both, config["crop_pct"], crop)
        return {"resize": both, "fit": "squash", "crop": crop}
    if given.keys() == {"shortest_edge"}:
        return _by_shorter_side(family, config, given["shortest_edge"], crop)
    msg = f"`size` is {size}, which gives images no fixed size; height and width, or shortest_edge and a crop, do"
    raise ValueError(msg)


def _enlarged(both: Size | int | None, part: float, crop: Size | int | None) -> dict[str, Any]:
    """The same for PoolFormer, whose crop is a part of the resized image."""
    if isinstance(both, Size):
        larger = Size(height=int(both.height / part), width=int(both.width / part))
        return {"resize": larger, "fit": "squash", "crop": crop}
    return {"resize": int((both or 0) / part), "crop": crop}


def _by_shorter_side(family: str, config: Mapping[str, Any], shortest: int, crop: Size | int | None) -> dict[str, Any]:
    """The same for a config that gives the shorter side, with what some processors make of it."""
    match family:
        case "ConvNextImageProcessor" if shortest >= _SQUASHED_FROM_PX:
            return {"resize": shortest, "fit": "squash", "crop": crop}
        case "ConvNextImageProcessor":
            if crop not in {None, shortest}:
                msg = f"the crop to `size` {shortest} is followed by one to {config['crop_size']}"
                raise ValueError(msg)
            return {"resize": int(shortest / config["crop_pct"]), "crop": shortest}
        case "LevitImageProcessor":
            shortest = int(_LEVIT_SCALE * shortest)
        case "PoolFormerImageProcessor":
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


def _normalization(config: Mapping[str, Any], channels: int) -> tuple[Channels, Channels]:
    """Mean and standard deviation of values in [0, 1].

    The processor computes (255 p f + o - m) / s from p in [0, 1], with the factor f and the offset o.
    """
    rescales = config.get("do_rescale", True)
    factor = 255 * float(config.get("rescale_factor", 1 / 255)) if rescales else 255.0
    offset = -1.0 if rescales and config.get("rescale_offset") else 0.0
    normalizes = config.get("do_normalize", True)
    mean = _channels(config.get("image_mean") if normalizes else None, _NO_MEAN, channels)
    std = _channels(config.get("image_std") if normalizes else None, _NO_STD, channels)
    means = tuple((own - offset) / factor for own in mean)
    stds = tuple(own / factor for own in std)
    if config.get("include_top"):
        # EfficientNet's processor divides by the deviation a second time
        again = _channels(config.get("image_std"), _NO_STD, channels)
        stds = tuple(own * more for own, more in zip(stds, again, strict=True))
    return means, stds


def _channels(values: Any, plain: Channels, channels: int) -> Channels:  # noqa: ANN401 - whatever JSON holds
    """One value per channel: a single one holds for all."""
    if values is None:
        return plain * channels
    given = tuple(float(value) for value in (values if isinstance(values, list | tuple) else (values,)))
    return given * channels if len(given) == 1 else given
