"""A command's client of the service whose requests go where a test says, without a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from auditcore.client import Client
from auditcore_service.cli import service_client


@contextmanager
def asking(transport: httpx.BaseTransport, sleep: Callable[[float], None] = lambda _: None) -> Iterator[None]:
    """Every command asks this transport while the context lasts, and waits by `sleep`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_client, "Client", partial(Client, transport=transport, sleep=sleep))
        yield


@contextmanager
def client_of(
    transport: httpx.BaseTransport, *, sleep: Callable[[float], None] = lambda _: None, **options: Any
) -> Iterator[Client]:
    """The client that a command gets."""
    with asking(transport, sleep), service_client.connected("http://testserver", **options) as client:
        yield client
