"""The random weights from which the trainings of a repeat begin."""

from __future__ import annotations

from auditcore.contracts.model_reference import BuiltModel, ModelReference
from auditcore.contracts.models import DemoModel, Weights
from auditcore.contracts.training.trainable_models import require_trainable

RANDOM = "random:"
"""How weights that are drawn and not read are named."""


def with_random_weights(reference: ModelReference, seed: int, repeat: int) -> BuiltModel:
    """The architecture of a model with the random weights of a repeat.

    Args:
        reference: The model.
        seed: Of the first repeat, where the model's own weights are not random.
        repeat: Number of the repeat, from 0.

    Raises:
        ModelNotTrainable: The weights of this kind of model cannot be replaced.
    """
    require_trainable(reference)
    built = reference.as_factory() if isinstance(reference, DemoModel) else reference
    assert isinstance(built, BuiltModel)  # noqa: S101 - only these are trainable
    own = built.weights.uri
    if own.startswith(RANDOM):
        if not own.removeprefix(RANDOM).isdecimal():
            # the loader says what is wrong with it
            return built
        seed = int(own.removeprefix(RANDOM))
    return built.model_copy(update={"weights": Weights(uri=f"{RANDOM}{seed + repeat}")})
