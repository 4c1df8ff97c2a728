"""Runs only the gateway, for a service that is scaled out."""

from __future__ import annotations

import uvicorn

from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.connections import most_connections, protocol_with_limits
from auditcore_service.logs import configure_logs
from auditcore_service.settings import Settings
from auditcore_service.startup import open_listener

DRAIN_S = 5
"""How long open event streams may delay a shutdown; their readers resume elsewhere with Last-Event-ID."""


def gateway_config(settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the app: without a log of requests, which are metrics, and with a bounded shutdown."""
    return uvicorn.Config(
        create_app(settings),
        http=protocol_with_limits(stalled_s=settings.stalled_s, connections=most_connections(settings.connections)),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        AddressUnavailable: The port is taken.
        ExposedWithoutAuthentication: Other machines can reach the address, and there is no authentication.
    """
    configure_logs(settings)
    with open_listener(settings) as listener:
        uvicorn.Server(gateway_config(settings)).run([listener])
