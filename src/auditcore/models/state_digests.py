"""Content addresses of models: of their weights, and of their architecture."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def state_digest(module: nn.Module) -> str:
    """Content address of a model: sha256 over names, types, shapes and bytes of its state, in name order."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def structure_digest(module: nn.Module) -> str:
    """What models of one architecture have in common: sha256 over names and shapes of the state, in name order."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}\0{tuple(value.shape)}\0".encode())
    return f"sha256:{digest.hexdigest()}"
