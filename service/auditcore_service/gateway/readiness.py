"""Whether what the gateway depends on answers: asked in the background, so that a probe never waits for long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, final

import structlog

log = structlog.get_logger(__name__)

ANSWER_S: Final = 3.0
"""Longest wait for a dependency; a probe of Kubernetes or Docker waits for some seconds at most."""


@final
@dataclass(frozen=True)
class Dependency:
    """Something without which the gateway can do nothing useful.

    Attributes:
        check: Raises an error if it does not answer.
        kept_s: How long an answer is used again, in seconds. A check of an object store costs money.
    """

    check: Callable[[], None]
    kept_s: float = 1.0


@final
class Readiness:
    """Asks each dependency at most once at a time, in a thread of its own.

    A dependency that hangs holds one thread, however many probes ask. No other work can take these threads.
    """

    def __init__(self, dependencies: Mapping[str, Dependency], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._dependencies = dependencies
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: dict[str, tuple[float, Future[str | None]]] = {}

    async def faults(self) -> dict[str, str | None]:
        """What is wrong with each dependency; None for one that answers."""
        asked = {name: self._ask(name, dependency) for name, dependency in self._dependencies.items()}
        await asyncio.wait([asyncio.wrap_future(one) for one in asked.values()], timeout=ANSWER_S)
        return {
            name: one.result() if one.done() else f"does not answer within {ANSWER_S:g} seconds"
            for name, one in asked.items()
        }

    def _ask(self, name: str, dependency: Dependency) -> Future[str | None]:
        with self._lock:
            now = self._clock()
            at, answer = self._asked.get(name, (0.0, None))
            if answer is not None and (not answer.done() or now - at < dependency.kept_s):
                return answer
            answer = Future[str | None]()
            self._asked[name] = (now, answer)
        threading.Thread(target=_answer, args=(answer, name, dependency), name=f"check-{name}", daemon=True).start()
        return answer


def _answer(answer: Future[str | None], name: str, dependency: Dependency) -> None:
    try:
        dependency.check()
    except Exception as error:  # each dependency fails in its own way, and all of them mean: not ready
        log.exception("dependency_unavailable", dependency=name)
        answer.set_result(_reason(error))
    else:
        answer.set_result(None)


def _reason(error: Exception) -> str:
    """What is wrong, in words that name no address and no password: everybody may ask."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "does not answer"
