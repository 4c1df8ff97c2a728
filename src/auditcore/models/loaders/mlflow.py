"""Models of the MLflow registry: weights of the pytorch flavor, in an architecture that the request names."""

from __future__ import annotations

from pathlib import Path

from auditcore.contracts.packaged_models import MlflowModel
from auditcore.errors import ModelNotLoadable
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.filled import fill_architecture
from auditcore.models.loaders.found_weights import read_found_weights
from auditcore.models.loaders.weights import WeightsSource
from auditcore.sources.registries.mlflow import FIELD, artifacts

CANDIDATES = ("data/model.pt2", "data/model.pth", "model.pth", "state_dict.pth", "model.safetensors")
"""Paths of the pytorch flavor for exported and pickled models, and usual paths of logged state dicts."""


def load(reference: MlflowModel, source: WeightsSource) -> LoadedModel:
    """Download the version and load its weights into the architecture; no code of the model runs.

    Raises:
        ModelChanged: The version holds other files than when it was resolved.
        InputError: The version cannot be downloaded, or its weights do not fit.
    """
    with artifacts(reference, source.access) as folder:
        return fill_architecture(
            reference.architecture,
            _content(folder),
            source,
            entry=reference.entry,
            scores=reference.scores,
            preprocessing=reference.preprocessing,
            field=FIELD,
            outputs=reference.outputs,
            select=reference.select,
        )


def _content(folder: Path) -> object:
    path = next((folder / name for name in CANDIDATES if (folder / name).is_file()), None)
    if path is None:
        msg = f"the model has none of {', '.join(CANDIDATES)}; log it with mlflow.pytorch, or log its state dict"
        raise ModelNotLoadable(msg, field=FIELD)
    return read_found_weights(path, field=FIELD)
