"""TorchScript programs. They are code, so the operator allows each by its digest."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from auditcore.contracts.packaged_models import TorchScriptModel
from auditcore.errors import ModelNotLoadable
from auditcore.models.foreign_code import Program
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.weights import WeightsSource
from auditcore.sources.fetching import open_resource

FIELD = "model.uri"


def load(reference: TorchScriptModel, source: WeightsSource) -> LoadedModel:
    """Load a program that `check_model` has allowed, after its digest was checked.

    Raises:
        ModelNotLoadable: The file is damaged or no program.
        InputError: The file cannot be read, or has another digest.
    """
    path = open_resource(
        reference.uri,
        access=source.access,
        field=FIELD,
        limit_bytes=source.access.limits.weights_bytes,
        sha256=reference.sha256,
        blobs=source.blobs,
    )
    return LoadedModel(
        load_program(path, field=FIELD),
        reference.preprocessing,
        reference.scores,
        trained=True,
        outputs=reference.outputs,
        select=reference.select,
    )


def load_program(path: Path, *, field: str) -> nn.Module:
    """A TorchScript program on the CPU. This runs its code, so the caller must have checked that it is allowed.

    Raises:
        ModelNotLoadable: The file is damaged or no program.
    """
    try:
        with warnings.catch_warnings():
            # torch.jit is deprecated, but many models are still stored this way
            warnings.simplefilter("ignore")
            module: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, OSError, ValueError) as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"the file is no TorchScript program, or it is damaged: {first_line}"
        raise ModelNotLoadable(msg, field=field) from error
    for parameter in module.parameters():
        # a copy of a parameter that requires gradients would belong to a graph
        parameter.requires_grad = False
    return Program(module)
