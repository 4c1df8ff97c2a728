"""Classifiers of `timm`; nothing is downloaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import timm
from timm.data.config import resolve_model_data_config
from torch import nn

from auditcore.contracts.models import TimmModel
from auditcore.contracts.preprocessing import Interpolation, Preprocessing, Size
from auditcore.errors import InvalidRequest, ModelNotLoadable
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.suggestions import near
from auditcore.models.loaders.weights import WeightsSource

_IMAGENET = 1000
_FEWEST_OF_MANY = 10_000
"""Every label set of timm 1.0 has 1000 classes or more than 10 000; its embeddings have 384 to 1280 values."""


def load(reference: TimmModel, source: WeightsSource) -> LoadedModel:
    """Build the named architecture and load its weights; without a given preprocessing, timm's own is used.

    Raises:
        InvalidRequest: timm has no model of that name, it has no classes of its own, or its own preprocessing cannot be
            expressed here.
        ModelNotLoadable: It cannot be built with that number of classes, or the weights do not fit.
    """
    if not timm.is_model(reference.name):
        architecture = reference.name.split(".")[0]
        msg = f"timm has no model {reference.name!r}{near(architecture, timm.list_models())}"
        raise InvalidRequest(msg, field="model.name")

    def construct() -> nn.Module:
        options: dict[str, Any] = {} if reference.classes is None else {"num_classes": reference.classes}
        try:
            module: nn.Module = timm.create_model(reference.name, pretrained=False, **options)
        # timm raises RuntimeError for an unknown tag of a known architecture
        except (RuntimeError, TypeError, ValueError) as error:
            msg = f"timm cannot build {reference.name!r}: {error}"
            raise ModelNotLoadable(msg, field="model.name") from error
        return module

    module, trained = source.build(construct, reference.weights)
    if reference.classes is None:
        refuse_features(module, reference.name, field="model.classes")
    preprocessing = reference.preprocessing or own_preprocessing(module)
    return LoadedModel(module, preprocessing, reference.scores, trained, outputs=reference.outputs)


def refuse_features(module: nn.Module, name: str, *, field: str) -> None:
    """Refuse a model of timm whose own head gives features or an embedding of image and text, not classes.

    Args:
        module: The model.
        name: Its name.
        field: Path in the request, for errors.

    Raises:
        InvalidRequest: It has no classes of its own.
    """
    classes = int(getattr(module, "num_classes", 0))
    if classes == 0:
        what = "has no classes of its own and returns features"
    elif classes != _IMAGENET and classes < _FEWEST_OF_MANY:
        what = f"returns an embedding of {classes} values for matching images with texts"
    else:
        return
    msg = f"timm's {name!r} {what}; set `classes` to the number of classes of your weights"
    raise InvalidRequest(msg, field=field)


def own_preprocessing(module: nn.Module) -> Preprocessing:
    """How timm itself feeds a model: its data config for evaluation.

    Raises:
        InvalidRequest: The config has a way to crop that is not known.
    """
    config = resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    mean, std = (_per_channel(config[name], channels) for name in ("mean", "std"))
    interpolation = config["interpolation"]
    # timm's own rounding, in timm.data.transforms_factory
    scaled = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    both = Size(height=scaled[0], width=scaled[1])
    pad: tuple[float, ...] | float = 0.0
    match config["crop_mode"]:
        case "center" if scaled[0] == scaled[1]:
            fit, resize = "shorter", scaled[0]
        case "center":
            fit, resize = "cover", both
        case "squash":
            fit, resize = "squash", both
        case "border":
            fit, resize, pad = "letterbox", both, tuple(round(255 * value) / 255 for value in mean)
        case mode:
            msg = (
                f"timm feeds this model {width} x {height} pixels with crop mode {mode!r}, which has no counterpart "
                "here; give `preprocessing`"
            )
            raise InvalidRequest(msg, field="model.preprocessing")
    return Preprocessing(
        resize=resize,
        fit=fit,
        pad=pad,
        crop=height if height == width else Size(height=height, width=width),
        mean=mean,
        std=std,
        interpolation=interpolation if interpolation in get_args(Interpolation) else "bilinear",
    )


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Timm keeps three values for models of other numbers of channels; it then averages them for one."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels
