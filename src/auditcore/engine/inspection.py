"""What will run on a loaded model."""

from __future__ import annotations

from auditcore.contracts.inspection import Inspection, InspectionRequest, ModelFinding, inspection_of
from auditcore.contracts.model_reference import ModelReference
from auditcore.explainers.registry import applicability, layers_named
from auditcore.models.classifier import Classifier


def inspect(
    classifier: Classifier,
    request: InspectionRequest,
    reference: ModelReference,
    *,
    facts: dict[str, str | int] | None = None,
) -> Inspection:
    """Ask every explainer and check whether it can give correct results on a model.

    Args:
        classifier: The model.
        request: Names explainers and checks.
        reference: The model as it was resolved.
        facts: What was found out when it was resolved.
    """
    return inspection_of(
        request,
        reference,
        classifier.capabilities,
        incompatibility=lambda explainer: applicability(classifier, explainer),
        layers=lambda explainer: layers_named(classifier, (explainer,)).get(explainer.label),
        facts=facts,
        found=ModelFinding(
            digest=classifier.digest,
            classes=classifier.classes,
            parameters=classifier.parameters,
            preprocessing=classifier.preprocessing,
            notes=classifier.notes,
        ),
    )
