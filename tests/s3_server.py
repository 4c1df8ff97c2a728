"""A real S3 server in this process, and the environment in which clients find it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def s3(buckets: Mapping[str, Mapping[str, bytes]]) -> Iterator[Any]:
    """Serve buckets with objects; processes that are started meanwhile find them as well.

    Yields:
        A client of boto3.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {
                "AWS_ENDPOINT_URL": f"http://{host}:{port}",
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_DEFAULT_REGION": "us-east-1",
            }.items():
                patch.setenv(name, value)
            client = boto3.client("s3")
            for bucket, objects in buckets.items():
                client.create_bucket(Bucket=bucket)
                for key, body in objects.items():
                    client.put_object(Bucket=bucket, Key=key, Body=body)
            yield client
    finally:
        server.stop()
