"""Counts of requests in a minute: of a tenant, of one principal, and of addresses whose credentials are wrong.

The windows are fixed: the first request opens one, and 60 s later all are forgotten. Where the service has Redis, all
gateways share the counts. Where it has none, or while it does not answer, each gateway counts on its own.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, final

import redis
import structlog
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter

from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.use_cases.quotas import Quotas
from auditcore_service.use_cases.refusals import TooManyRequests

log = structlog.get_logger(__name__)

WINDOW_S: Final = 60

TIMEOUT_S: Final = 1.0
"""Longest wait for Redis, which answers within a millisecond."""

PAUSE_S: Final = 15.0
"""How long a Redis that did not answer is not asked again. Without this pause, each request would wait for it."""

LIMITS_KEPT_S: Final = 10.0
"""How long a gateway keeps what it read of a tenant's limits; a change takes effect after this time."""

_MOST_ACCEPTED: Final = 10_000
"""Credentials that a gateway remembers as accepted, by 32 bytes of digest each."""


@final
@dataclass(frozen=True)
class Count:
    """Where a limit on requests stands after a request.

    Attributes:
        policy: Its name, as HTTP fields write it.
        quota: Requests allowed in `WINDOW_S`.
        remaining: Requests that are left.
        reset_s: Whole seconds until the window ends, at least 1.
        exceeded: Whether this request was one too many.
    """

    policy: str
    quota: int
    remaining: int
    reset_s: int
    exceeded: bool


@final
class RequestRates:
    """The use cases."""

    def __init__(self, settings: Settings, *, database: Database, quotas: Quotas) -> None:
        self._settings = settings
        self._database = database
        self._quotas = quotas
        self._counters = _Counters(None if settings.redis_url is None else settings.redis)
        self._limits: dict[str, tuple[float, int | None]] = {}
        self._accepted = _AcceptedCredentials()

    def count(self, principal: Principal) -> tuple[Count, ...]:
        """Count a request against the limits of its tenant and of its principal; the answer says which are exceeded."""
        counts = []
        quota = self._tenant_quota(principal.tenant)
        if quota is not None:
            counts.append(self._counters.hit("tenant", quota, principal.tenant))
        quota = self._settings.principal_requests_per_minute
        if quota is not None and principal.name is not None:
            counts.append(self._counters.hit("principal", quota, principal.tenant, principal.name))
        return tuple(counts)

    def check(self, principal: Principal, counts: Iterable[Count]) -> None:
        """Refuse a request that was one too many.

        Raises:
            TooManyRequests: It was.
        """
        exceeded = [count for count in counts if count.exceeded]
        if not exceeded:
            return
        last = max(exceeded, key=lambda count: count.reset_s)
        who, remedy = (
            (f"tenant {principal.tenant!r}", "the operator can raise the limit with `auditcore tenants set`")
            if last.policy == "tenant"
            else (f"{principal.name!r}", "the operator can raise AUDIT_PRINCIPAL_REQUESTS_PER_MINUTE")
        )
        msg = (
            f"{who} has sent more than the {last.quota} requests allowed in {WINDOW_S} seconds; wait {last.reset_s} "
            f"seconds, and ask less often; {remedy}"
        )
        raise TooManyRequests(msg, retry_after_s=last.reset_s)

    def standing(self, tenant: str) -> Count | None:
        """Where the limit on the requests of a tenant stands, without counting; None if there is no limit."""
        quota = self._tenant_quota(tenant)
        return None if quota is None else self._counters.look("tenant", quota, tenant)

    def failures(self, address: str | None, credentials: str | None) -> tuple[Count, ...]:
        """Where the limit on failed authentications of an address stands; nothing for credentials accepted before.

        Guesses are new by their nature, so clients that work are not locked out by those who guess from the same
        address, such as that of a proxy.
        """
        quota = self._settings.failed_authentications_per_minute
        if quota is None or credentials in self._accepted:
            return ()
        return (self._counters.look("failures", quota, _origin(address)),)

    def check_failures(self, counts: Iterable[Count]) -> None:
        """Refuse to look at further credentials from an address with too many wrong ones.

        Raises:
            TooManyRequests: It has sent too many.
        """
        for count in counts:
            if not count.remaining:
                msg = (
                    f"this address has sent {count.quota} requests without valid credentials within {WINDOW_S} "
                    f"seconds; wait {count.reset_s} seconds, and check the key or token that you send"
                )
                raise TooManyRequests(msg, retry_after_s=count.reset_s)

    def fail(self, address: str | None) -> tuple[Count, ...]:
        """Count a request without valid credentials."""
        quota = self._settings.failed_authentications_per_minute
        return () if quota is None else (self._counters.hit("failures", quota, _origin(address)),)

    def accept(self, credentials: str | None) -> None:
        """Remember that credentials were valid."""
        self._accepted.add(credentials)

    def close(self) -> None:
        """Close the connections."""
        self._counters.close()

    def _tenant_quota(self, tenant: str) -> int | None:
        now = time.monotonic()
        read_at, quota = self._limits.get(tenant, (-math.inf, None))
        if now - read_at > LIMITS_KEPT_S:
            with self._database.reading(tenant) as connection:
                quota = self._quotas.limits(connection, tenant).requests_per_minute
            self._limits[tenant] = (now, quota)
        return quota


@final
class _Counters:
    """Counts in fixed windows, in Redis or in memory."""

    def __init__(self, redis_url: str | None) -> None:
        self._pool: redis.ConnectionPool | None = None
        self._shared: RedisStorage | None = None
        if redis_url is not None:
            self._pool = redis.ConnectionPool.from_url(
                redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
            )
            self._shared = RedisStorage(redis_url, connection_pool=self._pool, key_prefix="auditcore-requests")
        self._own = MemoryStorage()
        self._lock = threading.Lock()
        self._silent_until = -math.inf

    def hit(self, policy: str, quota: int, *who: str) -> Count:
        """Count a request."""
        return self._ask(policy, quota, who, counting=True)

    def look(self, policy: str, quota: int, *who: str) -> Count:
        """Where a limit stands, without counting."""
        return self._ask(policy, quota, who, counting=False)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.disconnect()

    def _ask(self, policy: str, quota: int, who: tuple[str, ...], *, counting: bool) -> Count:
        if self._shared is not None and time.monotonic() >= self._silent_until:
            try:
                return _ask(self._shared, policy, quota, who, counting=counting)
            except redis.RedisError as error:
                self._silent_until = time.monotonic() + PAUSE_S
                log.warning("requests_counted_without_redis", reason=str(error), seconds=PAUSE_S)
        # a thread that reads after another has counted would refuse the last request that is allowed
        with self._lock:
            return _ask(self._own, policy, quota, who, counting=counting)


def _ask(
    storage: RedisStorage | MemoryStorage, policy: str, quota: int, who: tuple[str, ...], *, counting: bool
) -> Count:
    limiter, item = FixedWindowRateLimiter(storage), RateLimitItemPerMinute(quota)
    allowed = limiter.hit(item, policy, *who) if counting else True
    reset_at, remaining = limiter.get_window_stats(item, policy, *who)
    return Count(
        policy=policy,
        quota=quota,
        remaining=remaining,
        # Redis knows the end to the second only, so that it may lie in the past
        reset_s=max(1, math.ceil(reset_at - time.time())),
        exceeded=not allowed,
    )


@final
class _AcceptedCredentials:
    """Digests of the credentials that were valid last, those used longest ago forgotten first."""

    def __init__(self) -> None:
        self._digests = OrderedDict[bytes, None]()
        self._lock = threading.Lock()

    def add(self, credentials: str | None) -> None:
        with self._lock:
            self._digests[_digest(credentials)] = None
            self._digests.move_to_end(_digest(credentials))
            if len(self._digests) > _MOST_ACCEPTED:
                self._digests.popitem(last=False)

    def __contains__(self, credentials: str | None) -> bool:
        return _digest(credentials) in self._digests


def _digest(credentials: str | None) -> bytes:
    return hashlib.sha256((credentials or "").encode()).digest()


def _origin(address: str | None) -> str:
    """Where requests from an address are counted: an IPv6 client has a network of 64 bits to choose addresses from."""
    with suppress(ValueError):
        parsed = ipaddress.ip_address(address or "")
        if isinstance(parsed, ipaddress.IPv6Address):
            mapped = parsed.ipv4_mapped
            return str(ipaddress.ip_network((parsed, 64), strict=False)) if mapped is None else str(mapped)
        return str(parsed)
    # a unix socket has none
    return address or "local"
