"""Weights of a file in a registry or an archive, in any of the usual formats; no code in it runs."""

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
        path: The file; its content tells the format.
        field: Path in the request, for errors.

    Raises:
        ModelNotLoadable: The file is damaged, or holds no weights.
        UnsafeReference: The file is a TorchScript program.
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
