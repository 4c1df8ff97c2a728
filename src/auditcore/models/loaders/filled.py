"""An architecture with weights that were found somewhere."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from auditcore.contracts.archives import filled
from auditcore.contracts.models import Preprocessing, Scores, Weights
from auditcore.contracts.packaged_models import (
    Architecture,
    FactoryArchitecture,
    TimmArchitecture,
)
from auditcore.errors import InputError
from auditcore.models.loaders import factory, timm, torchvision
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.weights import WeightsSource, fill


def fill_architecture(
    architecture: Architecture,
    state: Mapping[str, Tensor],
    source: WeightsSource,
    *,
    scores: Scores,
    preprocessing: Preprocessing,
    field: str,
) -> LoadedModel:
    """Build an architecture and fill it.

    Args:
        architecture: What to build.
        state: Its weights, which must fit exactly.
        source: What the operator allows.
        scores: How logits become probabilities.
        preprocessing: How it is fed.
        field: Where the weights are named in the request, for errors.

    Raises:
        InputError: It cannot be built, or the weights do not fit.
    """
    model = filled(architecture, Weights(uri="random:0"), scores=scores, preprocessing=preprocessing)
    try:
        match architecture:
            case FactoryArchitecture():
                source.access.check_factory(architecture.target, field="model.target")
                loaded = factory.load(model, source)  # type: ignore[arg-type]  # of this very architecture, here and below
            case TimmArchitecture():
                loaded = timm.load(model, source)  # type: ignore[arg-type]
            case _:
                loaded = torchvision.load(model, source)  # type: ignore[arg-type]
    except InputError as error:
        # loaders blame a model that is an architecture with weights; here the architecture is a part of the model
        error.field = error.field.replace("model.", "model.architecture.", 1)
        raise
    try:
        fill(loaded.module, state)
    except InputError as error:
        error.field = field
        raise
    return LoadedModel(loaded.module, preprocessing, scores, trained=True)
