"""Models behind TorchServe."""

from __future__ import annotations

from auditcore.contracts.server_models import TorchServeModel
from auditcore.models.black_box import BlackBox
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.weights import WeightsSource
from auditcore.models.server_predictions import ServedSource
from auditcore.sources.servers.torchserve.client import TorchServeClient


def load(reference: TorchServeModel, source: WeightsSource) -> LoadedModel:  # noqa: ARG001 - nothing is fetched
    """A black box whose predictions come from the server.

    Raises:
        ModelChanged: The server serves another model than the reference was resolved to.
        InputError: The server does not answer, or its answers are not class scores.
    """
    served = ServedSource(
        TorchServeClient(reference), reference.limits, pinned=reference.sha256, classes=reference.classes
    )
    described = served.description
    return LoadedModel(
        BlackBox(served, outputs=described.outputs, scores=described.scores),
        described.preprocessing,
        described.scores,
        trained=True,
        class_names=reference.class_names,
    )
