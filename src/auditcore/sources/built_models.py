"""Models built from an architecture and its weights: torchvision, timm, factories and the demo model."""

from __future__ import annotations

from urllib.parse import urlsplit

from auditcore.contracts.access import AccessRules
from auditcore.contracts.capabilities import WHITE_BOX
from auditcore.contracts.file_parts import FilePart
from auditcore.contracts.model_reference import BuiltModel
from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel, Weights
from auditcore.errors import UnreachableResource, UnsafeReference
from auditcore.sources.fetching import pin_resource, read_resource
from auditcore.sources.model_files import KIND_BY_ENDING
from auditcore.sources.model_source import ModelSource, nothing_to_pin
from auditcore.sources.named_files import MOST_INDEX_BYTES, shards_of
from auditcore.sources.resolved_model import Resolution
from auditcore.sources.sibling_files import pin_siblings

FIELD = "model.weights.uri"

INDEX_ENDING = ".index.json"
"""Ending of the index of weights in several files of safetensors."""


def check_weights(weights: Weights, access: AccessRules) -> None:
    """Refuse weights from a place that is not allowed, or in a format that is no weights.

    Raises:
        UnsafeReference: As `AccessRules.check_uri`, or the ending of the file is that of another format.
    """
    access.check_uri(weights.uri, field=FIELD)
    path = urlsplit(weights.uri).path.lower()
    kind = next((kind for ending, kind in KIND_BY_ENDING.items() if path.endswith(ending)), None)
    if kind is not None:
        msg = f"this is no file of weights; name it with a model of kind {kind!r}, or send safetensors"
        raise UnsafeReference(msg, field=FIELD)
    if path.endswith((".pkl", ".pickle")):
        msg = "loading this format can run code; send safetensors or a plain state dict (.pth)"
        raise UnsafeReference(msg, field=FIELD)


def resolve(model: BuiltModel, access: AccessRules) -> Resolution:
    """The same reference with the digest of its weights, if this machine can read them.

    Raises:
        InputError: The weights cannot be fetched.
    """
    weights = model.weights
    digest = pin_resource(
        weights.uri,
        access=access,
        field=FIELD,
        limit_bytes=access.limits.weights_bytes,
        sha256=weights.sha256,
    )
    if digest is None:
        return Resolution(model, WHITE_BOX)
    pinned = weights.model_copy(update={"sha256": digest, "parts": _shards(weights, access)})
    return Resolution(model.model_copy(update={"weights": pinned}), WHITE_BOX)


def _shards(weights: Weights, access: AccessRules) -> tuple[FilePart, ...]:
    """Digests of the files that an index names, as far as this machine can read it."""
    if not urlsplit(weights.uri).path.lower().endswith(INDEX_ENDING):
        return weights.parts
    try:
        index = read_resource(
            weights.uri, access=access, field=FIELD, limit_bytes=MOST_INDEX_BYTES, sha256=weights.sha256
        )
    except UnreachableResource:
        # the digest was given, and only the workers can read the file
        return weights.parts
    names = shards_of(index, field=FIELD).values()
    limit = access.limits.weights_bytes
    return pin_siblings(weights.uri, names, weights.parts, access=access, field=FIELD, limit_bytes=limit)


def _check_named(model: TorchvisionModel | TimmModel, access: AccessRules) -> None:
    check_weights(model.weights, access)


def _check_factory(model: FactoryModel, access: AccessRules) -> None:
    access.check_factory(model.target, field="model.target")
    check_weights(model.weights, access)


def _check_demo(_model: DemoModel, _access: AccessRules) -> None:
    """Allow it always: this project has chosen its factory and its weights."""


def _named(model: TorchvisionModel | TimmModel) -> str:
    return f"{model.name} ({model.kind})"


def _called(model: FactoryModel) -> str:
    arguments = ", ".join(str(argument) for argument in model.args)
    return f"{model.target}({arguments})"


def _timm_architecture(model: TimmModel) -> str:
    # the part after the dot names the weights: resnet18.a1_in1k and resnet18.tv_in1k have one architecture
    return model.name.split(".", 1)[0]


TORCHVISION = ModelSource(
    contract=TorchvisionModel,
    check_access=_check_named,
    resolve=resolve,
    loader="auditcore.models.loaders.torchvision",
    display_name=_named,
    architecture_name=lambda model: model.name,
)

TIMM = ModelSource(
    contract=TimmModel,
    check_access=_check_named,
    resolve=resolve,
    loader="auditcore.models.loaders.timm",
    display_name=_named,
    architecture_name=_timm_architecture,
)

FACTORY = ModelSource(
    contract=FactoryModel,
    check_access=_check_factory,
    resolve=resolve,
    loader="auditcore.models.loaders.factory",
    display_name=_called,
    architecture_name=_called,
)

DEMO = ModelSource(
    contract=DemoModel,
    check_access=_check_demo,
    resolve=nothing_to_pin,
    loader="auditcore.models.loaders.demo",
    display_name=lambda _: "EfficientNet-Lite0 (demo)",
    architecture_name=lambda model: _called(model.as_factory()),
)
