"""Clients of a service under load, in a process of their own.

The program reads what to do from standard input, and writes what it took to standard output.
`service_load.py` starts it, on a core of its own where there are several. Requests go through aiohttp, which takes a
third of the processor that httpx takes for each.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import aiohttp
import numpy as np
from PIL import Image

IMAGES = 16
TIMEOUT_S = 60.0


@final
@dataclass
class Answers:
    """What requests of one kind took.

    Attributes:
        latencies_ms: Of answers that were a success.
        errors: Status or name of the error -> number.
    """

    latencies_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def summary(self, seconds: float) -> dict[str, Any]:
        ordered = sorted(self.latencies_ms)
        if not ordered:
            return {"requests": 0, "errors": dict(self.errors)}
        return {
            "requests": len(ordered),
            "per_s": len(ordered) / seconds,
            "p50_ms": ordered[len(ordered) // 2],
            "p99_ms": ordered[int(0.99 * len(ordered))],
            "max_ms": ordered[-1],
            "errors": dict(self.errors),
        }


@final
class Clients:
    """Clients that share one pool of connections, and take the gateways in turn."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._session = session
        self._urls = urls
        self._turn = 0
        self._seed = random.randrange(2**31)  # noqa: S311 - images that no run before has stored
        self.audits: list[str] = []
        self.batch = ""

    async def submit(self, into: Answers) -> None:
        body = {
            "model": {"kind": "demo"},
            "images": {"kind": "batch", "digest": self.batch},
            "plan": {"preset": "standard"},
        }
        answer = await self._ask(into, "POST", "/v1/audits", json=body)
        if answer is not None:
            self.audits.append(answer["id"])

    async def poll(self, into: Answers) -> None:
        audit_id = random.choice(self.audits)  # noqa: S311 - no secret
        await self._ask(into, "GET", f"/v1/audits/{audit_id}")

    async def upload(self, into: Answers) -> None:
        form = aiohttp.FormData()
        self._seed += 1
        for number in range(IMAGES):
            form.add_field("images", photo(self._seed * IMAGES + number), filename=f"{number}.png")
        answer = await self._ask(into, "POST", "/v1/image-batches", data=form)
        if answer is not None and not self.batch:
            self.batch = answer["digest"]

    async def follow(self, audit_id: str, opened: Counter[str], over: asyncio.Event) -> None:
        """Hold one stream of events until `over`; counts what comes."""
        try:
            async with self._session.get(
                f"{self._url()}/v1/audits/{audit_id}/events", timeout=aiohttp.ClientTimeout(total=None)
            ) as answer:
                opened[str(answer.status)] += 1
                while not over.is_set():
                    try:
                        line = await asyncio.wait_for(answer.content.readline(), 1)
                    except TimeoutError:
                        continue
                    if not line:
                        opened["ended"] += 1
                        return
                    opened["lines"] += 1
        except aiohttp.ClientError as error:
            opened[type(error).__name__] += 1

    def _url(self) -> str:
        self._turn += 1
        return self._urls[self._turn % len(self._urls)]

    async def _ask(self, into: Answers, method: str, path: str, **body: Any) -> Any:
        started = time.perf_counter()
        try:
            async with self._session.request(method, self._url() + path, **body) as answer:
                document = await answer.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            into.errors[type(error).__name__] += 1
            return None
        if answer.status >= 400:
            into.errors[str(answer.status)] += 1
            return None
        into.latencies_ms.append(1000 * (time.perf_counter() - started))
        return document


def photo(seed: int) -> bytes:
    """A small PNG of noise."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


async def closed_loop(do: Callable[[Answers], Awaitable[None]], *, clients: int, seconds: float) -> dict[str, Any]:
    """Each client sends its next request when it has the answer to the one before."""
    answers = Answers()
    end = time.perf_counter() + seconds

    async def one() -> None:
        while time.perf_counter() < end:
            await do(answers)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return answers.summary(time.perf_counter() - started)


async def steady(clients: Clients, *, per_s: float, seconds: float) -> dict[str, Any]:
    """Requests on a schedule, whether or not earlier ones are answered: one submit and one upload to eight polls."""
    kinds = {"submit": Answers(), "poll": Answers(), "upload": Answers()}
    doing = {"submit": clients.submit, "poll": clients.poll, "upload": clients.upload}
    order = ["submit", "upload", *["poll"] * 8]
    started = time.perf_counter()

    async def one(number: int) -> None:
        await asyncio.sleep(max(0.0, started + number / per_s - time.perf_counter()))
        name = order[number % len(order)]
        await doing[name](kinds[name])

    await asyncio.gather(*(one(number) for number in range(int(per_s * seconds))))
    took = time.perf_counter() - started
    return {name: answers.summary(took) for name, answers in kinds.items()}


async def idle_streams(clients: Clients, *, streams: int, seconds: float) -> dict[str, Any]:
    """Hold streams of audits that wait, and submit beside them."""
    opened: Counter[str] = Counter()
    over = asyncio.Event()
    following = [
        asyncio.create_task(clients.follow(clients.audits[number % len(clients.audits)], opened, over))
        for number in range(streams)
    ]
    deadline = time.perf_counter() + 30
    while opened["200"] < streams and time.perf_counter() < deadline:  # noqa: ASYNC110 - many tasks count
        await asyncio.sleep(0.1)
    beside = await closed_loop(clients.submit, clients=1, seconds=seconds)
    over.set()
    await asyncio.gather(*following)
    return {"opened": dict(opened), "submit_beside": beside}


async def run(wanted: dict[str, Any]) -> dict[str, Any]:
    """Do one phase."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        clients = Clients(session, wanted["urls"])
        clients.audits, clients.batch = wanted["audits"], wanted["batch"]
        seconds = wanted["seconds"]
        warm = Answers()
        if not clients.batch:
            await clients.upload(warm)
        while len(clients.audits) < wanted["least_audits"]:
            await clients.submit(warm)
        match wanted["phase"]:
            case "steady":
                found = await steady(clients, per_s=wanted["per_s"], seconds=seconds)
            case "streams":
                found = await idle_streams(clients, streams=wanted["streams"], seconds=seconds)
            case name:
                doing = {"submit": clients.submit, "poll": clients.poll, "upload": clients.upload}[name]
                found = await closed_loop(doing, clients=wanted["clients"], seconds=seconds)
        return {"found": found, "audits": clients.audits[-1000:], "batch": clients.batch}


def main() -> None:
    """Do what standard input says, and write what it took to standard output."""
    print(json.dumps(asyncio.run(run(json.load(sys.stdin)))))  # noqa: T201 - read by service_load.py


if __name__ == "__main__":
    main()
