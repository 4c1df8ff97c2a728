"""Whether the worker on this host answers; the health check of its container."""

from __future__ import annotations

import socket

from auditcore_service.queue.celery_queue import build_celery
from auditcore_service.settings import Settings

ANSWER_S = 5.0
"""Longest wait for an answer; workers answer from their main process within milliseconds, also while they compute."""


def answers(settings: Settings) -> bool:
    """Ask all workers on the queue, and look for one whose name ends in this host's."""
    replies = build_celery(settings).control.ping(timeout=ANSWER_S)
    here = f"@{socket.gethostname()}"
    return any(name.endswith(here) for reply in replies for name in reply)
