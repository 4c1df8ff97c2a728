"""What every process of the service needs to start, and the errors that say why one cannot."""

from __future__ import annotations

import socket


class CannotStart(Exception):
    """A process of the service cannot start; the message says why and what to change."""


class AddressUnavailable(CannotStart):
    """Nothing can listen on this address."""


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
