"""Models whose reference names a file: the bytes of now are what is audited."""

from __future__ import annotations

from auditcore.contracts.access import AccessRules
from auditcore.contracts.capabilities import BLACK_BOX, WHITE_BOX, ModelCapabilities
from auditcore.contracts.model_reference import BuiltModel
from auditcore.contracts.packaged_models import MarModel, OnnxModel, TorchExportModel, TorchScriptModel
from auditcore.sources.fetching import pin_resource
from auditcore.sources.resolved_model import Resolution

FileModel = MarModel | OnnxModel | TorchScriptModel | TorchExportModel


def resolve_weights(model: BuiltModel, access: AccessRules) -> Resolution:
    """The same reference with the digest of its weights, where they can be read here.

    Raises:
        InputError: They cannot be fetched.
    """
    weights = model.weights
    digest = pin_resource(
        weights.uri,
        access=access,
        field="model.weights.uri",
        limit_bytes=access.limits.weights_bytes,
        sha256=weights.sha256,
    )
    if digest is None:
        return Resolution(model, WHITE_BOX)
    pinned = model.model_copy(update={"weights": weights.model_copy(update={"sha256": digest})})
    return Resolution(pinned, WHITE_BOX)


def resolve_file(model: FileModel, access: AccessRules) -> Resolution:
    """The same reference with the digest of its file, where it can be read here.

    Raises:
        InputError: It cannot be fetched.
    """
    digest = pin_resource(
        model.uri,
        access=access,
        field="model.uri",
        limit_bytes=access.limits.weights_bytes,
        sha256=model.sha256,
    )
    capabilities: ModelCapabilities | None = WHITE_BOX
    if isinstance(model, OnnxModel):
        # whether the graph can be converted shows when it is loaded
        capabilities = BLACK_BOX if model.gradients == "never" else None
    return Resolution(model if digest is None else model.model_copy(update={"sha256": digest}), capabilities)
