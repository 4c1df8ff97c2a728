"""Where a process reads from that may not reach what a request names: another process fetches it for this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from auditcore.contracts.model_reference import ModelReference


class ResourceProxy(Protocol):
    """Fetches what is not a file of this machine: `https:`, `blob:`, objects of stores, models of registries.

    Every method may raise InputError, as `open_resource` does. The process behind it applies the rules of access too.
    """

    def open(self, uri: str, *, field: str, limit_bytes: int, sha256: str | None) -> Path:
        """A file with the bytes behind a URI, verified; read it soon."""

    def pin(self, uri: str, *, field: str, limit_bytes: int) -> str | None:
        """The `sha256:...` of what is behind a URI now."""

    def open_registry(self, reference: ModelReference) -> Path:
        """A folder with the files of a model of a registry, verified; read it soon."""


_IN_USE: list[ResourceProxy] = []


@contextmanager
def fetch_through(proxy: ResourceProxy) -> Iterator[None]:
    """Let another process fetch everything that this whole process reads from elsewhere.

    Args:
        proxy: The way to the other process.
    """
    _IN_USE.append(proxy)
    try:
        yield
    finally:
        _IN_USE.remove(proxy)


def proxy_in_use() -> ResourceProxy | None:
    """The way to the process that fetches for this one; None if this one fetches itself."""
    return _IN_USE[-1] if _IN_USE else None
