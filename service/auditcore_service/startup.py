"""What every process of the service needs to start, and the errors that say why one cannot."""

from __future__ import annotations

import socket

from auditcore_service.settings import Settings, is_loopback


class CannotStart(Exception):
    """A process of the service cannot start; the message says why and what to change."""


class AddressUnavailable(CannotStart):
    """Nothing can listen on this address."""


class ExposedWithoutAuthentication(CannotStart):
    """Everybody who reaches this address could do everything."""


def open_listener(settings: Settings) -> socket.socket:
    """A bound TCP socket at the address of the settings; without authentication only an address of this machine.

    Raises:
        AddressUnavailable: Another program has the port, or this machine does not have the address.
        ExposedWithoutAuthentication: Other machines can reach it, nobody has to say who they are, and the operator has
            not named it.
    """
    listener = listen(settings.host, settings.port)
    # the address it is bound to, not the name: a name is what the resolver says. Nothing is accepted yet
    bound = listener.getsockname()[0]
    if settings.authentication == "required" or is_loopback(bound) or settings.unauthenticated_host == settings.host:
        return listener
    listener.close()
    found = settings.host if settings.host == bound else f"{settings.host!r} ({bound})"
    named = settings.unauthenticated_host
    but = "" if named is None else f"; AUDIT_UNAUTHENTICATED_HOST is {named}, which is another"
    msg = (
        f"AUDIT_HOST is {found}, which other machines can reach, and AUDIT_AUTHENTICATION is none, so that everybody "
        f"there could read and change everything{but}. Set AUDIT_AUTHENTICATION=required, and make a key with "
        "`auditcore keys create`; or listen at 127.0.0.1; or, if something in front of the service knows who asks, set "
        f"AUDIT_UNAUTHENTICATED_HOST={settings.host}"
    )
    raise ExposedWithoutAuthentication(msg)


def listen(host: str, port: int) -> socket.socket:
    """A bound TCP socket for a server.

    Args:
        host: Name or address, IPv4 or IPv6.
        port: Port; 0 takes any free one.

    Raises:
        AddressUnavailable: Another program has the port, or this machine does not have the address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # the protocol by name: asyncio sets TCP_NODELAY only on sockets that say they are TCP
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        msg = f"cannot listen on {host} port {port}: {error.strerror}; choose another with AUDIT_HOST and AUDIT_PORT"
        raise AddressUnavailable(msg) from error
    return listener
