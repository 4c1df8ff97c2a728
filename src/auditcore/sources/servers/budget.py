"""How many requests were sent to a server, and how many more may be sent."""

from __future__ import annotations

import threading
from typing import final

from auditcore.errors import RequestBudgetExceeded


@final
class RequestBudget:
    """Counts requests, tries included; any thread may spend.

    Attributes:
        made: Requests so far.
    """

    def __init__(self, url: str, *, whole: int | None) -> None:
        """Allow any number of requests.

        Args:
            url: Of the server, for the error.
            whole: Requests that the whole audit may make, for the error.
        """
        self.made = 0
        self._url = url
        self._whole = whole
        self._lock = threading.Lock()
        self._part: int | None = None
        self._end: int | None = None

    def allow(self, requests: int | None) -> None:
        """Set how many further requests may be made; any number if None."""
        with self._lock:
            self._part = requests
            self._end = None if requests is None else self.made + requests

    def spend(self) -> None:
        """Count one request.

        Raises:
            RequestBudgetExceeded: None is left; it is not counted and must not be sent.
        """
        with self._lock:
            if self._end is not None and self.made >= self._end:
                msg = (
                    f"the {self._part} requests to {self._url} that this part of the audit may make are used up "
                    f"(`limits.requests` is {self._whole}); raise it, use fewer images, explainers or checks, and look "
                    "whether the server often has to be asked again"
                )
                raise RequestBudgetExceeded(msg, field="model.limits.requests")
            self.made += 1
