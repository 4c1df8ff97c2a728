"""Weights of a file in a registry or an archive, in any of the usual formats; no code in it runs."""

from __future__ import annotations

from pathlib import Path

from auditcore.models.loaders.exported_weights import is_exported, read_exported_weights
from auditcore.models.loaders.weights import read_checkpoint


def read_found_weights(path: Path, *, field: str) -> object:
    """Content of safetensors, a checkpoint, a pickled module or an exported program.

    Args:
        path: The file; its content tells the format.
        field: Path in the request, for errors.

    Raises:
        ModelNotLoadable: The file is damaged.
        UnsafeReference: The file is a TorchScript program, or a pickle in which no tensors have names.
    """
    return read_exported_weights(path, field=field) if is_exported(path) else read_checkpoint(path, field=field)
