"""Image classifiers in Hugging Face layout, of `timm` and `transformers`; weights are only safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import safetensors.torch
import timm
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from auditcore.contracts.models import Preprocessing
from auditcore.contracts.packaged_models import HuggingFaceModel
from auditcore.errors import InvalidRequest, ModelNotLoadable
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.timm import own_preprocessing, refuse_features
from auditcore.models.loaders.weights import WeightsSource, fill
from auditcore.sources.registries.huggingface import PREPROCESSOR, Snapshot

_RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, as preprocessor_config.json writes them."""


@final
class Logits(nn.Module):
    """A classifier of `transformers` that returns only the logits."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap a model."""
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N,classes) of normalized images (N,3,H,W)."""
        logits: Tensor = self.model(pixel_values=x).logits
        return logits


def load(reference: HuggingFaceModel, source: WeightsSource) -> LoadedModel:
    """Build the architecture that the snapshot names and load its weights; no code of the snapshot runs.

    Raises:
        InputError: The snapshot cannot be read, names no image classifier, or its weights do not fit.
    """
    field = "model.uri" if reference.uri is not None else "model.repo"
    snapshot = Snapshot(reference, source.access)
    if "architecture" in snapshot.config:
        module = _timm(snapshot, field)
        preprocessing = reference.preprocessing or own_preprocessing(module)
    else:
        module = _transformers(snapshot, field)
        preprocessing = reference.preprocessing or _preprocessing(snapshot)
    return LoadedModel(module, preprocessing, reference.scores, trained=True, outputs=reference.outputs)


def _timm(snapshot: Snapshot, field: str) -> nn.Module:
    config = snapshot.config
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
    state: dict[str, Tensor] = {}
    for path in snapshot.weights:
        state |= safetensors.torch.load_file(path)
    if int(getattr(module, "num_classes", 0)) == 0:
        refuse_features(module, str(config["architecture"]), field=field)
    try:
        fill(module, state)
    except ModelNotLoadable as error:
        error.field = field
        raise
    known = dict(getattr(module, "pretrained_cfg", {}) or {})
    module.pretrained_cfg = known | {key: value for key, value in own.items() if value is not None}  # type: ignore[assignment]
    return module


def _transformers(snapshot: Snapshot, field: str) -> nn.Module:
    names = [str(name) for name in snapshot.config.get("architectures") or ()]
    if not any(name.endswith("ForImageClassification") for name in names):
        found = ", ".join(names) or "no architecture"
        msg = f"config.json names {found}, which is not an image classifier; give the snapshot of a classifier"
        raise ModelNotLoadable(msg, field=field)
    try:
        from transformers import AutoModelForImageClassification  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = f"transformers is not installed here ({error}); install auditcore[huggingface]"
        raise ModelNotLoadable(msg, field=field) from error
    try:
        build: Any = AutoModelForImageClassification
        # in the whole snapshot it would follow an adapter_config.json to another model
        with torch.random.fork_rng(devices=[]), snapshot.isolated() as folder:
            # transformers loads the weights itself, because it renames those of older versions; eager attention
            # consists of PyTorch operations that explainers can see
            model, report = build.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                attn_implementation="eager",
            )
    # each config class raises errors of its own
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"transformers cannot load the model of config.json: {first_line}"
        raise ModelNotLoadable(msg, field=field) from error
    wrong = [
        str(name) for kind in ("missing_keys", "mismatched_keys", "unexpected_keys") for name in report.get(kind, ())
    ]
    if wrong:
        msg = (
            f"the weights do not fit config.json ({len(wrong)} names, such as {wrong[0]}); download the snapshot again"
        )
        raise ModelNotLoadable(msg, field=field)
    return Logits(model)


def _preprocessing(snapshot: Snapshot) -> Preprocessing:
    """The preprocessing of preprocessor_config.json, if it is the center crop of a square."""
    given = snapshot.read(PREPROCESSOR)
    resize, side = _sizes(given)
    normalizes = bool(given.get("do_normalize", True))
    fields = {
        "resize": resize,
        "crop": side,
        "mean": given.get("image_mean") if normalizes else (0.0, 0.0, 0.0),
        "std": given.get("image_std") if normalizes else (1.0, 1.0, 1.0),
        "interpolation": _RESAMPLING.get(given.get("resample", 2)),
    }
    try:
        return Preprocessing.model_validate(fields)
    except ValidationError as error:
        msg = f"{PREPROCESSOR} of the snapshot is missing or describes no center crop of a square; give `preprocessing`"
        raise InvalidRequest(msg, field="model.preprocessing") from error


def _sizes(given: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Length of the shorter side, and of the crop; None for what the config does not give."""
    size, crop = given.get("size"), given.get("crop_size")
    if isinstance(size, dict):
        shorter = size.get("shortest_edge")
        square = size.get("height") if size.get("height") == size.get("width") else None
    else:
        shorter, square = None, size
    if given.get("do_center_crop") and crop is not None:
        side = crop.get("height") if isinstance(crop, dict) else crop
        return (shorter or square), side
    # without a crop, only a size with equal sides gives a square
    return square, square
