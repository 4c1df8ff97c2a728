"""The record of models behind TorchServe."""

from __future__ import annotations

from auditcore.contracts.access import AccessRules
from auditcore.contracts.server_models import TorchServeModel
from auditcore.sources.model_source import ModelSource
from auditcore.sources.resolved_model import Resolution
from auditcore.sources.servers.client import brief, facts_of, name_at_server
from auditcore.sources.servers.torchserve.client import TorchServeClient


def check_access(model: TorchServeModel, access: AccessRules) -> None:
    """Refuse addresses and a token file that are not allowed.

    Raises:
        UnsafeReference: As `AccessRules.check_server`.
    """
    access.check_server(model.url, model.token_file)
    if model.management_url is not None:
        access.check_server_url(model.management_url, field="model.management_url")


def resolve(model: TorchServeModel, _access: AccessRules) -> Resolution:
    """The reference with the version and digest of the model that TorchServe serves now.

    Raises:
        InputError: TorchServe does not answer, or has no such model.
    """
    client = TorchServeClient(model.model_copy(update={"limits": brief(model.limits)}))
    try:
        description = client.describe()
    finally:
        client.close()
    pinned = model.model_copy(
        update={"version": model.version or description.version, "sha256": model.sha256 or description.pin}
    )
    return Resolution(pinned, description.capabilities, facts_of(description))


TORCHSERVE = ModelSource(
    contract=TorchServeModel,
    check_access=check_access,
    resolve=resolve,
    loader="auditcore.models.loaders.torchserve",
    display_name=lambda model: name_at_server(model.name, model.url, model.version),
)
