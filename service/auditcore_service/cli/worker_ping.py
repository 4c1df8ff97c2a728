"""Whether the worker on this host answers; the health check of its container."""

from __future__ import annotations

import socket

from auditcore_service.settings import Settings

ANSWER_S = 5.0
"""Longest wait for an answer; workers answer from their main process within milliseconds, also while they compute."""


def answers(settings: Settings) -> bool:
    """Whether a worker on this host answers: over Redis, or by the file with which one without Redis shows itself."""
    if settings.queue == "database":
        from auditcore_service.worker.presence import is_worker_present  # noqa: PLC0415 - only what is used is loaded

        return is_worker_present(silent_s=ANSWER_S)
    from auditcore_service.queue.celery_queue import build_celery  # noqa: PLC0415 - a service without Redis needs no Celery

    replies = build_celery(settings).control.ping(timeout=ANSWER_S)
    here = f"@{socket.gethostname()}"
    return any(name.endswith(here) for reply in replies for name in reply)
