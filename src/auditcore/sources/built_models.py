"""Models built from an architecture and its weights: torchvision, timm, factories and the demo model."""

from __future__ import annotations

from urllib.parse import urlsplit

from auditcore.contracts.access import AccessRules
from auditcore.contracts.capabilities import WHITE_BOX
from auditcore.contracts.model_reference import BuiltModel
from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel, Weights
from auditcore.errors import UnsafeReference
from auditcore.sources.fetching import pin_resource
from auditcore.sources.model_files import KIND_BY_ENDING
from auditcore.sources.model_source import ModelSource, nothing_to_pin
from auditcore.sources.resolved_model import Resolution

FIELD = "model.weights.uri"


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
    pinned = model.model_copy(update={"weights": weights.model_copy(update={"sha256": digest})})
    return Resolution(pinned, WHITE_BOX)


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
