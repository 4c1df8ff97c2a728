"""The record of models behind servers of the Open Inference Protocol v2."""

from __future__ import annotations

from auditcore.contracts.access import AccessRules
from auditcore.contracts.server_models import OpenInferenceModel
from auditcore.sources.model_source import ModelSource
from auditcore.sources.resolved_model import Resolution
from auditcore.sources.servers.client import Description, brief, facts_of, name_at_server
from auditcore.sources.servers.open_inference.client import OpenInferenceClient


def check_access(model: OpenInferenceModel, access: AccessRules) -> None:
    """Refuse an address or a token file that is not allowed.

    Raises:
        UnsafeReference: As `AccessRules.check_server`.
    """
    access.check_server(model.url, model.token_file)


def resolve(model: OpenInferenceModel, _access: AccessRules) -> Resolution:
    """The reference with the version and digest of the model that the server serves now.

    Raises:
        InputError: The server does not answer, or has no such model.
    """
    description = _described(model)
    if model.version is None:
        version = description.version or _answering_version(model)
        if version is not None:
            # the audit asks for this version from now on, so the pin is that of its description
            model = model.model_copy(update={"version": version})
            description = _described(model)
    pinned = model.model_copy(update={"sha256": model.sha256 or description.pin})
    return Resolution(pinned, description.capabilities, facts_of(description))


def _described(model: OpenInferenceModel) -> Description:
    client = OpenInferenceClient(model.model_copy(update={"limits": brief(model.limits)}))
    try:
        return client.describe()
    finally:
        client.close()


def _answering_version(model: OpenInferenceModel) -> str | None:
    """The version that answers by default, for servers whose metadata do not tell it."""
    client = OpenInferenceClient(model.model_copy(update={"limits": brief(model.limits)}))
    try:
        client.describe()
        return client.answering_version()
    finally:
        client.close()


OPEN_INFERENCE = ModelSource(
    contract=OpenInferenceModel,
    check_access=check_access,
    resolve=resolve,
    loader="auditcore.models.loaders.open_inference",
    display_name=lambda model: name_at_server(model.name, model.url, model.version),
)
