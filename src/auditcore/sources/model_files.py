"""Models in one file: TorchServe archives, ONNX graphs and programs of PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from auditcore.contracts.access import AccessRules
from auditcore.contracts.capabilities import BLACK_BOX, WHITE_BOX, ModelCapabilities
from auditcore.contracts.packaged_models import MarModel, OnnxModel, TorchExportModel, TorchScriptModel
from auditcore.errors import UnreachableResource
from auditcore.sources.fetching import open_resource, pin_resource
from auditcore.sources.model_source import ModelSource
from auditcore.sources.named_files import external_files
from auditcore.sources.resolved_model import Resolution
from auditcore.sources.sibling_files import pin_siblings

FIELD = "model.uri"

KIND_BY_ENDING = {".mar": "mar", ".pt2": "torch_export", ".torchscript": "torchscript", ".onnx": "onnx"}
"""Ending of a file -> the kind of model that reads it."""

FileModel = MarModel | OnnxModel | TorchScriptModel | TorchExportModel


def pinned(model: FileModel, access: AccessRules, capabilities: ModelCapabilities | None) -> Resolution:
    """The same reference with the digest of its file, if this machine can read it.

    Args:
        model: The reference.
        access: What the operator allows.
        capabilities: What the model lets an audit see; None if only loading it can tell.

    Raises:
        InputError: The file cannot be fetched.
    """
    digest = pin_resource(
        model.uri,
        access=access,
        field=FIELD,
        limit_bytes=access.limits.weights_bytes,
        sha256=model.sha256,
    )
    return Resolution(model if digest is None else model.model_copy(update={"sha256": digest}), capabilities)


def _resolve_white_box(model: FileModel, access: AccessRules) -> Resolution:
    return pinned(model, access, WHITE_BOX)


def _resolve_onnx(model: OnnxModel, access: AccessRules) -> Resolution:
    # whether the graph can be converted to PyTorch is known after it is loaded
    found = pinned(model, access, BLACK_BOX if model.gradients == "never" else None)
    return replace(found, reference=model.model_copy(update=_pins(model, found, access)))


def _pins(model: OnnxModel, found: Resolution, access: AccessRules) -> dict[str, Any]:
    """Digests of the graph and of the files that it names, as far as this machine can read them."""
    digest = found.reference.sha256  # type: ignore[union-attr]  # of the same kind as `model`
    limit = access.limits.weights_bytes
    if digest is None or urlsplit(model.uri).scheme == "blob":
        return {"sha256": digest}
    try:
        path = open_resource(model.uri, access=access, field=FIELD, limit_bytes=limit, sha256=digest)
    except UnreachableResource:
        # the digest was given, and only the workers can read the file
        return {"sha256": digest}
    names = external_files(path)
    parts = pin_siblings(model.uri, names, model.parts, access=access, field=FIELD, limit_bytes=limit)
    return {"sha256": digest, "parts": parts}


def _check_archive(model: MarModel, access: AccessRules) -> None:
    access.check_uri(model.uri, field=FIELD)
    access.check_architecture(model.architecture)


def _check_graph(model: OnnxModel, access: AccessRules) -> None:
    access.check_uri(model.uri, field=FIELD)


def _check_program(model: TorchScriptModel | TorchExportModel, access: AccessRules) -> None:
    access.check_uri(model.uri, field=FIELD)
    access.check_code(model.sha256, what="the program", field="model.sha256")


def _file_name(model: FileModel) -> str:
    return f"{model.uri.rsplit('/', 1)[-1]} ({model.kind})"


MAR = ModelSource(
    contract=MarModel,
    check_access=_check_archive,
    resolve=_resolve_white_box,
    loader="auditcore.models.loaders.mar",
    display_name=_file_name,
)

ONNX = ModelSource(
    contract=OnnxModel,
    check_access=_check_graph,
    resolve=_resolve_onnx,
    loader="auditcore.models.loaders.onnx",
    display_name=_file_name,
)

TORCHSCRIPT = ModelSource(
    contract=TorchScriptModel,
    check_access=_check_program,
    resolve=_resolve_white_box,
    loader="auditcore.models.loaders.torchscript",
    display_name=_file_name,
)

TORCH_EXPORT = ModelSource(
    contract=TorchExportModel,
    check_access=_check_program,
    resolve=_resolve_white_box,
    loader="auditcore.models.loaders.torch_export",
    display_name=_file_name,
)
