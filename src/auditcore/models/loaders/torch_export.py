"""Programs of `torch.export`. Loading one unpickles it, so the operator allows each by its digest."""

from __future__ import annotations

import warnings
from typing import final

import torch
from torch import nn

from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.packaged_models import TorchExportModel
from auditcore.errors import ModelNotLoadable
from auditcore.models.foreign_code import Program, raised_by_a_signal, said
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.weights import WeightsSource
from auditcore.sources.fetching import open_resource

FIELD = "model.uri"


@final
class Exported(Program):
    """A program as a module. It was exported in one mode, so train() and eval() must not reach it."""

    def train(self, mode: bool = True) -> Exported:  # noqa: FBT001, FBT002 - the signature of torch
        """Change only the flag; the program has one mode."""
        self.training = mode
        return self


def load(reference: TorchExportModel, source: WeightsSource) -> LoadedModel:
    """Load a program that `check_model` has allowed, after its digest was checked.

    Raises:
        ModelNotLoadable: The file is damaged, no program, or was exported for one batch size.
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = Exported(torch.export.load(path).module())
    # torch.export.load fails in many ways on what it has not written
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"the file is no program of torch.export, or it is damaged: {first_line}"
        raise ModelNotLoadable(msg, field=FIELD) from error
    _refuse_fixed_batch(module, reference.preprocessing.shape)
    return LoadedModel(
        module,
        reference.preprocessing,
        reference.scores,
        trained=True,
        outputs=reference.outputs,
        select=reference.select,
    )


def _refuse_fixed_batch(module: nn.Module, shape: InputShape) -> None:
    """Refuse a program of a fixed number of images; one image at a time is possible, as without dynamic shapes.

    Raises:
        ModelNotLoadable: It takes neither two and three images, nor one.
    """
    failures = [_failure(module, shape, images=images) for images in (2, 3)]
    first = next((failure for failure in failures if failure is not None), None)
    if first is None or _failure(module, shape, images=1) is None:
        return
    msg = (
        f"the program does not take any number of images of {shape} ({first}); export it with a dynamic batch "
        "dimension: dynamic_shapes={'x': {0: torch.export.Dim('n')}}"
    )
    raise ModelNotLoadable(msg, field=FIELD)


def _failure(module: nn.Module, shape: InputShape, *, images: int) -> str | None:
    """Why a program does not take a number of images; None if it does."""
    try:
        with torch.no_grad():
            module(torch.zeros(images, *shape))
    # a program is foreign code
    except Exception as error:
        if raised_by_a_signal(error):
            raise
        return said(error)
    return None
