"""Classifiers of `timm`; nothing is downloaded."""

from __future__ import annotations

from typing import Any

import timm
from timm.data.config import resolve_model_data_config
from torch import nn

from auditcore.contracts.models import Preprocessing, TimmModel
from auditcore.errors import InvalidRequest, ModelNotLoadable
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.suggestions import near
from auditcore.models.loaders.weights import WeightsSource

_INTERPOLATIONS = {"nearest", "bilinear", "bicubic"}

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
        InvalidRequest: The config is not a center crop of a square with three channels.
    """
    config = resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    if channels != 3 or height != width or config["crop_mode"] != "center":  # noqa: PLR2004 - RGB
        msg = (
            f"timm feeds this model {config['input_size']} with crop mode {config['crop_mode']!r}, which is not the "
            "center crop of a square RGB image; give `preprocessing`"
        )
        raise InvalidRequest(msg, field="model.preprocessing")
    interpolation = config["interpolation"]
    return Preprocessing(
        # timm's own rounding, in timm.data.transforms_factory
        resize=int(height / config["crop_pct"]),
        crop=height,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=interpolation if interpolation in _INTERPOLATIONS else "bilinear",
    )
