"""Weights of a file that some tool wrote into a registry or an archive, whatever its format; nothing in it is run."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from auditcore.errors import ModelNotLoadable, UnsafeReference
from auditcore.models.loaders.exported_weights import is_exported, read_exported_weights
from auditcore.models.loaders.pickled import read_pickled_state
from auditcore.models.loaders.weights import read_state_dict


def read_found_weights(path: Path, *, field: str) -> dict[str, Tensor]:
    """Parameters and buffers by name: of safetensors, a state dict, a pickled module or an exported program.

    Args:
        path: The file; its format is recognized by content.
        field: Path in the request, for errors.

    Raises:
        ModelNotLoadable: It is damaged, or holds no weights.
        UnsafeReference: It is a TorchScript program.
    """
    if is_exported(path):
        return read_exported_weights(path, field=field)
    try:
        return read_state_dict(path)
    except UnsafeReference:
        return read_pickled_state(path, field=field)
    except ModelNotLoadable as error:
        error.field = field
        raise
