"""Models behind servers of the Open Inference Protocol v2."""

from __future__ import annotations

from auditcore.contracts.server_models import OpenInferenceModel
from auditcore.models.black_box import BlackBox
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.weights import WeightsSource
from auditcore.models.server_predictions import ServedSource
from auditcore.sources.servers.open_inference.client import OpenInferenceClient


def load(reference: OpenInferenceModel, source: WeightsSource) -> LoadedModel:  # noqa: ARG001 - nothing is fetched
    """A black box whose predictions come from the server.

    Raises:
        ModelChanged: The server serves another model than the reference was resolved to.
        InputError: The server does not answer, or its answers are not class scores.
    """
    served = ServedSource(
        OpenInferenceClient(reference), reference.limits, pinned=reference.sha256, classes=reference.classes
    )
    module = BlackBox(served, outputs=reference.outputs, scores=reference.scores)
    return LoadedModel(module, reference.preprocessing, reference.scores, trained=True)
