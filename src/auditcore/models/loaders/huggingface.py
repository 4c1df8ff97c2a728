"""Image classifiers in Hugging Face layout, of `timm` and `transformers`; weights are safetensors alone."""

from __future__ import annotations

import contextlib
from typing import Any, final

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from auditcore.contracts.models import Preprocessing
from auditcore.contracts.packaged_models import HuggingFaceModel
from auditcore.errors import InvalidRequest, ModelNotLoadable
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.timm import own_preprocessing
from auditcore.models.loaders.weights import WeightsSource, fill
from auditcore.registries.huggingface import PREPROCESSOR, Snapshot

_RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, as preprocessor_config.json writes them."""


@final
class Logits(nn.Module):
    """A classifier of `transformers`, of which the logits alone come out."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap a model."""
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N,classes) of normalized images (N,3,H,W)."""
        logits: Tensor = self.model(pixel_values=x).logits
        return logits


def load(reference: HuggingFaceModel, source: WeightsSource) -> LoadedModel:
    """Build the architecture that the snapshot names and fill it; no code of the snapshot runs.

    Raises:
        InputError: The snapshot cannot be had, names no image classifier, or does not fit.
    """
    field = "model.uri" if reference.uri is not None else "model.repo"
    snapshot = Snapshot(reference, source.access)
    state: dict[str, Tensor] = {}
    for path in snapshot.weights:
        state |= safetensors.torch.load_file(path)
    config = snapshot.config
    if "architecture" in config:
        module = _timm(config, field)
        preprocessing = reference.preprocessing or own_preprocessing(module)
        target: nn.Module = module
    else:
        module = _transformers(snapshot, field)
        preprocessing = reference.preprocessing or _preprocessing(snapshot)
        target = module.model if isinstance(module, Logits) else module
    try:
        fill(target, state)
    except ModelNotLoadable as error:
        error.field = field
        raise
    return LoadedModel(module, preprocessing, reference.scores, trained=True)


def _timm(config: dict[str, Any], field: str) -> nn.Module:
    options: dict[str, Any] = {"num_classes": config["num_classes"]} if "num_classes" in config else {}
    own = dict(config.get("pretrained_cfg") or {})
    try:
        with torch.random.fork_rng(devices=[]):
            module: nn.Module = timm.create_model(
                str(config["architecture"]), pretrained=False, **options, **dict(config.get("model_args") or {})
            )
    except (RuntimeError, TypeError, ValueError) as error:
        msg = f"timm cannot build {config['architecture']!r}, which config.json names: {error}"
        raise ModelNotLoadable(msg, field=field) from error
    known = dict(getattr(module, "pretrained_cfg", {}) or {})
    module.pretrained_cfg = known | {key: value for key, value in own.items() if value is not None}  # type: ignore[assignment]
    return module


def _transformers(snapshot: Snapshot, field: str) -> nn.Module:
    names = [str(name) for name in snapshot.config.get("architectures") or ()]
    if not any(name.endswith("ForImageClassification") for name in names):
        msg = f"config.json names {', '.join(names) or 'no architecture'}, which is no image classifier"
        raise ModelNotLoadable(f"{msg}; name a snapshot of one", field=field)
    try:
        from transformers import AutoConfig, AutoModelForImageClassification  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = f"transformers is not installed here ({error}); install auditcore[huggingface]"
        raise ModelNotLoadable(msg, field=field) from error
    try:
        with torch.random.fork_rng(devices=[]):
            config = AutoConfig.from_pretrained(snapshot.folder, local_files_only=True, trust_remote_code=False)
            model: nn.Module = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    # whatever is wrong with a config comes as an error of the class it belongs to
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"transformers cannot build what config.json says: {first_line}"
        raise ModelNotLoadable(msg, field=field) from error
    with contextlib.suppress(AttributeError, ValueError):
        # attention written out: others have no rules for relevance
        model.set_attn_implementation("eager")  # type: ignore[operator]
    return Logits(model)


def _preprocessing(snapshot: Snapshot) -> Preprocessing:
    """What preprocessor_config.json says, as far as it is a center crop of a square."""
    given = snapshot.read(PREPROCESSOR)
    size, crop = given.get("size"), given.get("crop_size")
    try:
        if isinstance(size, dict):
            resize = int(size.get("shortest_edge") or size["height"])
            square = size.get("height") == size.get("width")
        else:
            resize, square = int(size), True
        side = resize
        if given.get("do_center_crop") and crop is not None:
            side = int(crop["height"] if isinstance(crop, dict) else crop)
        if not square or (
            "shortest_edge" in (size if isinstance(size, dict) else {}) and side == resize and crop is None
        ):
            raise ValueError(size)
        return Preprocessing(
            resize=max(resize, side),
            crop=side,
            mean=tuple(given["image_mean"]) if given.get("do_normalize", True) else (0.0, 0.0, 0.0),
            std=tuple(given["image_std"]) if given.get("do_normalize", True) else (1.0, 1.0, 1.0),
            interpolation=_RESAMPLING[int(given.get("resample", 2))],  # type: ignore[arg-type]  # checked by pydantic
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{PREPROCESSOR} of the snapshot is missing or describes no center crop of a square; give `preprocessing`"
        raise InvalidRequest(msg, field="model.preprocessing") from error
