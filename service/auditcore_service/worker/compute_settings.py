"""What the process that computes has to know. It holds no address and no credentials of a database or a queue."""

from __future__ import annotations

from typing import Protocol, Self, final
from urllib.parse import urlsplit, urlunsplit

from auditcore.contracts.access import AccessRules, Limits
from auditcore.contracts.contract import Contract
from auditcore.devices.cpu_share import threads_of_worker
from auditcore.devices.host_memory import LIMIT_SHARE, total_bytes
from auditcore_service.settings import Settings


class ComputingSettings(Protocol):
    """What computing reads of the settings; those of an operator have it all."""

    @property
    def access(self) -> AccessRules:
        """What a request may name."""

    @property
    def limits(self) -> Limits:
        """Sizes that are checked before an image is decoded."""

    @property
    def device(self) -> str:
        """Where to compute; `auto` is the first GPU if there is one."""

    @property
    def micro_batch(self) -> int | None:
        """Images per pass; measured if None."""

    @property
    def cached_models(self) -> int:
        """Models kept in memory."""

    @property
    def picture_images(self) -> int:
        """Images of an audit whose maps are drawn."""


@final
class ComputeSettings(Contract):
    """The part of the settings that a compute process is given.

    Attributes:
        access: What a request may name, without credentials in the address of a registry.
        device: Where to compute: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: Threads of PyTorch.
        micro_batch: Images per pass; measured if None.
        memory_bytes: Memory that the process may take on a CPU.
        cached_models: Models kept in memory.
        picture_images: Images of an audit whose maps are drawn.
    """

    access: AccessRules
    device: str
    threads: int
    micro_batch: int | None
    memory_bytes: int
    cached_models: int
    picture_images: int

    @property
    def limits(self) -> Limits:
        """Sizes that are checked before an image is decoded."""
        return self.access.limits

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The part of an operator's settings that computing needs."""
        access = settings.access
        registry = access.mlflow_tracking_uri
        return cls(
            access=access.model_copy(
                update={"mlflow_tracking_uri": None if registry is None else _without_credentials(registry)}
            ),
            device=settings.device,
            threads=settings.threads or threads_of_worker(settings.workers),
            micro_batch=settings.micro_batch,
            memory_bytes=settings.memory_bytes or int(LIMIT_SHARE * total_bytes() / settings.workers),
            cached_models=settings.cached_models,
            picture_images=settings.picture_images,
        )


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
