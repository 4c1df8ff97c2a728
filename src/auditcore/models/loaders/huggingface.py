"""Image classifiers in Hugging Face layout, of `timm` and `transformers`; weights are only safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import safetensors
import timm
import torch
from timm.models._hub import load_model_config_from_path
from torch import Tensor, nn

from auditcore.contracts.packaged_models import HuggingFaceModel
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import InvalidRequest, ModelNotLoadable
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.checkpoints import fill
from auditcore.models.loaders.class_names import names_by_number
from auditcore.models.loaders.huggingface_preprocessing import preprocessing_of
from auditcore.models.loaders.timm import own_preprocessing, refuse_features
from auditcore.models.loaders.weights import WeightsSource, read_safetensors
from auditcore.sources.registries.huggingface import Snapshot

_INTEGERS = {"I8": "int8", "U8": "uint8", "I16": "int16", "I32": "int32", "I64": "int64"}
"""Types of integers in a safetensors file -> their names in PyTorch."""


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
        module = _timm(snapshot, source, field)
        preprocessing = reference.preprocessing or own_preprocessing(module)
    else:
        module = _transformers(snapshot, field)
        preprocessing = reference.preprocessing or _own_preprocessing(snapshot)
    return LoadedModel(
        module,
        preprocessing,
        reference.scores,
        trained=True,
        outputs=reference.outputs,
        class_names=_class_names(snapshot.config),
    )


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes: `id2label` of transformers, `label_names` of timm."""
    listed = config.get("label_names")
    return names_by_number(dict(enumerate(listed)) if isinstance(listed, list) else config.get("id2label"))


def _own_preprocessing(snapshot: Snapshot) -> Preprocessing:
    config = snapshot.config
    # models of images and text describe their part for images in an entry of its own
    vision = config.get("vision_config")
    channels = config.get("num_channels") or (vision.get("num_channels") if isinstance(vision, dict) else None)
    return preprocessing_of(
        snapshot.image_processor,
        model_type=str(config.get("model_type") or ""),
        channels=channels if isinstance(channels, int) else 3,
    )


def _timm(snapshot: Snapshot, source: WeightsSource, field: str) -> nn.Module:
    architecture = snapshot.config["architecture"]
    try:
        with snapshot.isolated() as folder, torch.random.fork_rng(devices=[]):
            # also knows configs of earlier versions, whose data config is not an entry of its own
            own, name, options = load_model_config_from_path(folder)
            module: nn.Module = timm.create_model(name, pretrained=False, pretrained_cfg=own, **options)
    # timm expects certain types of values and checks few of them
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        msg = f"timm cannot build {architecture!r}, which config.json names: {error}"
        raise ModelNotLoadable(msg, field=field) from error
    state: dict[str, Tensor] = {}
    for path in snapshot.weights:
        state |= read_safetensors(path, field=field)
    if int(getattr(module, "num_classes", 0)) == 0:
        refuse_features(module, str(architecture), field=field)
    try:
        source.notes.extend(fill(module, state, field=field))
    except InvalidRequest as error:
        # a snapshot has no `entry` to choose with: it is published for one model
        msg = f"the weights of the snapshot leave open which ones are meant ({error.message}); save them again"
        raise ModelNotLoadable(msg, field=field) from error
    return module


def _transformers(snapshot: Snapshot, field: str) -> nn.Module:
    names = [str(name) for name in snapshot.config.get("architectures") or ()]
    # some end with WithTeacher or Learned
    if not any("ForImageClassification" in name for name in names):
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
    _refuse_integers(snapshot, model.state_dict(), field)
    return Logits(model)


def _refuse_integers(snapshot: Snapshot, own: Mapping[str, Tensor], field: str) -> None:
    """Refuse integers for float weights: transformers converts them, although their scale is not in the file."""
    for path in snapshot.weights:
        with safetensors.safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                kept = file.get_slice(name).get_dtype()
                if kept in _INTEGERS and name in own and own[name].is_floating_point():
                    msg = (
                        f"weights are integers, so that their scale is lost: {name} is {_INTEGERS[kept]} instead of "
                        f"{str(own[name].dtype).removeprefix('torch.')}; save the snapshot with float weights"
                    )
                    raise ModelNotLoadable(msg, field=field)
