"""Write TorchServe model archives (`.mar`) for audits; no code in them has to be trusted."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.archives import (
    DESCRIPTION,
    HANDLER,
    MANIFEST,
    WEIGHTS,
    ArchiveDescription,
    architecture_of,
)
from auditcore.contracts.model_reference import BuiltModel
from auditcore.contracts.models import DemoModel
from auditcore.errors import InvalidRequest
from auditcore.models.loading import load_model

_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of every entry, so that the same model gives the same bytes."""

_HANDLER_TEXT = (
    '"""Serves a model to audits: all class scores, and explanations; see docker/torchserve."""\n\n'
    "from auditcore.integrations.torchserve_handler import handle\n\n"
    '__all__ = ["handle"]\n'
)


def write_archive(
    out: Path,
    *,
    name: str,
    version: str,
    model: BuiltModel | DemoModel,
    access: AccessRules,
    extra_files: Sequence[Path] = (),
) -> None:
    """Write an archive that TorchServe serves with this project's handler and that a reference of kind `mar` loads.

    Args:
        out: Path of the archive; an existing file is replaced atomically.
        name: Name of the model in TorchServe.
        version: Version of the model in TorchServe, such as `1.0`.
        model: The model to serve; its weights are loaded and written as safetensors.
        access: Access rules for loading `model`.
        extra_files: Files to add next to the handler, such as the module of a factory.

    Raises:
        InvalidRequest: Two files have the same name.
        InputError: The model cannot be loaded.
    """
    loaded = load_model(model, access=access)
    spelled = model.as_factory() if isinstance(model, DemoModel) else model
    description = ArchiveDescription(
        architecture=architecture_of(spelled),
        outputs=loaded.outputs,
        select=loaded.select,
        scores=loaded.scores,
        preprocessing=loaded.preprocessing,
    )
    manifest = {
        "createdOn": "",
        "runtime": "python",
        "model": {
            "modelName": name,
            "modelVersion": version,
            "serializedFile": WEIGHTS,
            "handler": f"{HANDLER}:handle",
        },
        "archiverVersion": "0.12.0",
    }
    # tensors that share memory are written separately: the loader fills an architecture that shares them again
    state = {key: value.detach().clone().contiguous() for key, value in loaded.module.state_dict().items()}
    files: dict[str, bytes] = {
        MANIFEST: json.dumps(manifest, indent=2).encode(),
        DESCRIPTION: description.model_dump_json(indent=2).encode(),
        HANDLER: _HANDLER_TEXT.encode(),
        WEIGHTS: safetensors.torch.save(state),
    }
    for path in extra_files:
        if path.name in files:
            msg = f"two files of the archive would be called {path.name!r}; rename one"
            raise InvalidRequest(msg, field="extra_files")
        files[path.name] = path.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for entry, data in files.items():
            archive.writestr(zipfile.ZipInfo(entry, _DATE), data)
    part = out.with_name(f".{out.name}.{hashlib.sha256(str(out).encode()).hexdigest()[:8]}.part")
    try:
        part.write_bytes(buffer.getvalue())
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
