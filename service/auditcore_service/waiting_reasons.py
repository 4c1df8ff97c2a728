"""What shards may wait for, and what a client is told of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

WaitingReason = Literal["database", "blob_store", "queue", "disk", "computer", "network", "resource", "retry"]

MESSAGES: Mapping[WaitingReason, str] = {
    "database": "the database did not answer a worker; the audit goes on when it does",
    "blob_store": "the blob store could not be read or written; the audit goes on when it can",
    "queue": "the queue did not answer a worker; the audit goes on when it does",
    "disk": "a disk of a worker is full or cannot be written; the audit goes on when it can",
    "computer": "a worker could not start the process that computes; its log says why. The audit goes on when one can",
    "network": "a connection of a worker broke; the audit goes on when it holds",
    "resource": "something that the request names did not answer, such as the server of a model; if it stays away, the "
    "audit fails",
    "retry": "a part of the audit failed or lost its worker, and is about to be tried again",
}
