"""A copy of the files of a model of a registry, for a process that may not reach the registry."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from auditcore.contracts.access import AccessRules
from auditcore.contracts.packaged_models import HuggingFaceModel, MlflowModel
from auditcore.sources.registries.huggingface import HUGGINGFACE, Snapshot
from auditcore.sources.registries.mlflow import MLFLOW, artifacts


def copy_registry_model(reference: HuggingFaceModel | MlflowModel, access: AccessRules, folder: Path) -> Path:
    """A new folder with the files of a model, verified.

    Args:
        reference: The model, resolved.
        access: What the operator allows.
        folder: An existing folder, in which the new one is made.

    Raises:
        InputError: The model is not allowed, cannot be read, or holds other files than when it was resolved.
    """
    copy = Path(tempfile.mkdtemp(prefix="model-", dir=folder))
    if isinstance(reference, HuggingFaceModel):
        HUGGINGFACE.check_access(reference, access)
        snapshot = Snapshot(reference, access)
        for name in snapshot.names:
            shutil.copyfile(snapshot.folder / name, copy / name)
        return copy
    MLFLOW.check_access(reference, access)
    with artifacts(reference, access) as files:
        shutil.copytree(files, copy, dirs_exist_ok=True)
    return copy
