"""An architecture with weights from an archive or a registry."""

from __future__ import annotations

from auditcore.contracts.archives import filled
from auditcore.contracts.models import Scores, Weights
from auditcore.contracts.outputs import Outputs, Select
from auditcore.contracts.packaged_models import (
    Architecture,
    FactoryArchitecture,
    TimmArchitecture,
    TorchvisionArchitecture,
)
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import InputError
from auditcore.models.loaders import factory, timm, torchvision
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.checkpoints import fill
from auditcore.models.loaders.weights import WeightsSource


def fill_architecture(
    architecture: Architecture,
    content: object,
    source: WeightsSource,
    *,
    entry: str | None,
    scores: Scores,
    preprocessing: Preprocessing,
    field: str,
    outputs: Outputs = "logits",
    select: Select | None = None,
) -> LoadedModel:
    """Build an architecture and load weights into it.

    Args:
        architecture: What to build.
        content: Content of the file of weights, of which a set must fit exactly.
        source: What the operator allows.
        entry: The set to load, as for `fill`.
        scores: How logits become probabilities.
        preprocessing: How photos become inputs.
        field: Path of the weights in the request, for errors.
        outputs: What the architecture returns.
        select: Entry of what it returns that holds the class scores.

    Raises:
        InputError: The architecture cannot be built, or the weights do not fit.
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
        # these loaders name fields of a model; here the architecture is one field of the model
        error.field = error.field.replace("model.", "model.architecture.", 1)
        raise
    source.notes.extend(fill(loaded.module, content, field=field, entry=entry))
    notes: tuple[str, ...] = ()
    if isinstance(architecture, TorchvisionArchitecture):
        notes = torchvision.as_published(loaded.module, architecture.transform_input)
    return LoadedModel(loaded.module, preprocessing, scores, trained=True, outputs=outputs, select=select, notes=notes)
