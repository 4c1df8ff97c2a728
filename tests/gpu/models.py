"""Which models the parts measure: the benchmark's on the card, small untrained ones in a rehearsal."""

from __future__ import annotations

from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import TorchvisionModel, Weights
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from benchmarks import subjects
from gpu.context import Context

TINY = {"resnet50": "squeezenet1_1", "demo": "mobilenet_v3_small"}
"""What stands in for a model in a rehearsal on a CPU: layers of the same kinds, a hundredth of the work."""

TINY_SIDE_PX = 64


def load(name: str, context: Context, *, tiny_side_px: int = TINY_SIDE_PX) -> Classifier:
    """One of the benchmark's models on the device, or its stand-in of a size."""
    if not context.tiny:
        return subjects.load(name, str(context.device))
    return load_classifier(untrained(TINY[name], tiny_side_px), access=AccessRules(), device=str(context.device))


def untrained(name: str, side_px: int) -> ModelReference:
    """A model of torchvision with random weights at a size of its input."""
    preprocessing = Preprocessing(resize=side_px, crop=side_px)
    return TorchvisionModel(name=name, weights=Weights(uri="random:0"), preprocessing=preprocessing)
