"""Models in TorchServe archives (`.mar`); code runs only from archives that the operator allows."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

import torch
from torch import nn

from auditcore.contracts.packaged_models import MarModel
from auditcore.errors import InvalidRequest, ModelNotLoadable, UnsafeReference
from auditcore.models.archives import FIELD, Archive
from auditcore.models.foreign_code import raised_by_a_signal, said
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.checkpoints import fill
from auditcore.models.loaders.filled import fill_architecture
from auditcore.models.loaders.found_weights import read_found_weights
from auditcore.models.loaders.torch_files import looks_like_torchscript
from auditcore.models.loaders.torchscript import load_program
from auditcore.models.loaders.weights import WeightsSource
from auditcore.sources.fetching import open_resource


def load(reference: MarModel, source: WeightsSource) -> LoadedModel:
    """Load the model of an archive.

    Raises:
        UnsafeReference: Loading would run code that the operator has not allowed.
        InvalidRequest: Neither the archive nor the request tells how photos are preprocessed.
        InputError: The archive cannot be read, or its weights do not fit.
    """
    limit = source.access.limits.weights_bytes
    path = open_resource(
        reference.uri,
        access=source.access,
        field=FIELD,
        limit_bytes=limit,
        sha256=reference.sha256,
        blobs=source.blobs,
    )
    archive = Archive(path, limit_bytes=limit)
    described = archive.description
    architecture = reference.architecture or (None if described is None else described.architecture)
    scores = reference.scores or ("softmax" if described is None else described.scores)
    outputs = reference.outputs or ("logits" if described is None else described.outputs)
    select = reference.select
    if select is None and described is not None:
        select = described.select
    preprocessing = reference.preprocessing or (None if described is None else described.preprocessing)
    if preprocessing is None:
        msg = "the archive does not tell how photos are preprocessed for the model; give `preprocessing`"
        raise InvalidRequest(msg, field="model.preprocessing")
    serialized = archive.manifest.model.serialized_file
    if architecture is None:
        module = _run(archive, path, source, reference.entry)
        return LoadedModel(module, preprocessing, scores, trained=True, outputs=outputs, select=select)
    if serialized is None:
        msg = "the archive has no file of weights (serializedFile); archive the model with --serialized-file"
        raise ModelNotLoadable(msg, field=FIELD)
    with archive.extracted([serialized]) as files:
        return fill_architecture(
            architecture,
            read_found_weights(files[serialized], field=FIELD),
            source,
            entry=reference.entry,
            scores=scores,
            preprocessing=preprocessing,
            field=FIELD,
            outputs=outputs,
            select=select,
        )


def _run(archive: Archive, path: Path, source: WeightsSource, entry: str | None) -> nn.Module:
    """The module that the code of an archive makes, if the operator allows this archive."""
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if digest not in source.access.code_digests:
        msg = (
            f"the archive does not name its architecture; give `architecture`, or ask the operator to allow its "
            f"code by the digest {digest} (AUDIT_CODE_DIGESTS)"
        )
        raise UnsafeReference(msg, field="model.architecture")
    model = archive.manifest.model
    names = [name for name in (model.serialized_file, model.model_file) if name is not None]
    with archive.extracted(names) as files:
        if model.serialized_file is None:
            msg = "the archive has no file of weights (serializedFile); archive the model with --serialized-file"
            raise ModelNotLoadable(msg, field=FIELD)
        weights = files[model.serialized_file]
        if looks_like_torchscript(weights):
            return load_program(weights, field=FIELD)
        if model.model_file is None:
            msg = "the archive has weights and no model file; give `architecture`"
            raise ModelNotLoadable(msg, field="model.architecture")
        module = _eager(files[model.model_file])
        source.notes.extend(fill(module, read_found_weights(weights, field=FIELD), field=FIELD, entry=entry))
        return module


def _eager(path: Path) -> nn.Module:
    """An instance of the only module class in a file, made as TorchServe does."""
    name = f"auditcore_archived_{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # noqa: S101 - a path always has one
    assert spec.loader is not None  # noqa: S101 - a path always has one
    code = importlib.util.module_from_spec(spec)
    sys.modules[name] = code
    try:
        spec.loader.exec_module(code)
        classes = [
            one
            for one in vars(code).values()
            if isinstance(one, type) and issubclass(one, nn.Module) and one.__module__ == name
        ]
        with torch.random.fork_rng(devices=[]):
            made = classes[0]() if len(classes) == 1 else None
    # the code is foreign: any error of it is about the archive, also where it ends as a script does
    except (Exception, SystemExit) as error:
        if raised_by_a_signal(error):
            raise
        msg = f"the model file of the archive fails: {said(error)}"
        raise ModelNotLoadable(msg, field=FIELD) from error
    if made is None:
        msg = f"the model file must define one subclass of torch.nn.Module, but it defines {len(classes)}"
        raise ModelNotLoadable(msg, field=FIELD)
    return made
