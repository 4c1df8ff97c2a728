"""Classifiers of `torchvision.models`; nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from auditcore.contracts.models import TorchvisionModel
from auditcore.errors import InvalidRequest, ModelNotLoadable
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.suggestions import near
from auditcore.models.loaders.weights import WeightsSource

_DRAWS_INITIAL_WEIGHTS = {"googlenet", "inception_v3"}
"""These warn unless `init_weights` is given. PyTorch's own initial values are faster to draw and as random."""


def load(reference: TorchvisionModel, source: WeightsSource) -> LoadedModel:
    """Build the named architecture and load its weights.

    Raises:
        InvalidRequest: torchvision has no classifier of that name.
        ModelNotLoadable: It cannot be built with that number of classes, or the weights do not fit.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if reference.name not in names:
        msg = f"torchvision has no classifier {reference.name!r}{near(reference.name, names)}"
        raise InvalidRequest(msg, field="model.name")

    def construct() -> nn.Module:
        options: dict[str, Any] = {} if reference.classes is None else {"num_classes": reference.classes}
        if reference.name in _DRAWS_INITIAL_WEIGHTS:
            options["init_weights"] = False
        try:
            module: nn.Module = torchvision.models.get_model(reference.name, weights=None, **options)
        except (TypeError, ValueError) as error:
            msg = f"torchvision cannot build {reference.name!r} with {options}: {error}"
            raise ModelNotLoadable(msg, field="model.classes") from error
        return module

    module, trained = source.build(construct, reference.weights)
    return LoadedModel(module, reference.preprocessing, reference.scores, trained)
