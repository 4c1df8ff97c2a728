"""Models of the MLflow registry: weights of the pytorch flavor, into an architecture that the request names."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from auditcore.contracts.packaged_models import MlflowModel
from auditcore.errors import ModelNotLoadable
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.filled import fill_architecture
from auditcore.models.loaders.found_weights import read_found_weights
from auditcore.models.loaders.weights import WeightsSource
from auditcore.sources.registries.mlflow import FIELD, artifacts

CANDIDATES = ("data/model.pt2", "data/model.pth", "model.pth", "state_dict.pth", "model.safetensors")
"""Where the pytorch flavor keeps a model, exported or pickled, and where state dicts are logged."""


def load(reference: MlflowModel, source: WeightsSource) -> LoadedModel:
    """Download the version, take its weights and fill the architecture; nothing of the model is run.

    Raises:
        ModelChanged: The version holds other files than when it was resolved.
        InputError: It cannot be had, or does not fit.
    """
    with artifacts(reference, source.access) as folder:
        return fill_architecture(
            reference.architecture,
            _state(folder),
            source,
            scores=reference.scores,
            preprocessing=reference.preprocessing,
            field=FIELD,
        )


def _state(folder: Path) -> dict[str, Tensor]:
    path = next((folder / name for name in CANDIDATES if (folder / name).is_file()), None)
    if path is None:
        msg = f"the model holds none of {', '.join(CANDIDATES)}; log it with mlflow.pytorch, or its state dict"
        raise ModelNotLoadable(msg, field=FIELD)
    return read_found_weights(path, field=FIELD)
