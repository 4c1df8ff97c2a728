"""No operation ignores a query parameter that it does not have."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient


def operations(client: TestClient) -> list[tuple[str, str, list[str]]]:
    """Method, path and query parameters of every operation of the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = client.get("/openapi.json").json()["paths"]
    return [
        (method, path, [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"])
        for path, listed in paths.items()
        for method, operation in listed.items()
    ]


def test_every_operation_refuses_an_unknown_parameter(client: TestClient) -> None:
    listed = operations(client)
    assert len(listed) > 20
    for method, path, names in listed:
        answer = client.request(method, f"{path}?no_such_thing=1")
        assert answer.status_code == 422, path
        (mistake,) = answer.json()["errors"]
        assert (mistake["pointer"], mistake["code"]) == ("#query/no_such_thing", "unknown_parameter")
        assert all(f"`{name}`" in mistake["detail"] for name in names)


@pytest.mark.parametrize(
    ("query", "pointer", "text"),
    [
        ("limt=3", "#query/limt", "did you mean `limit`?"),
        ("tags=a:b", "#query/tags", "did you mean `tag`?"),
        ("limit=1&limit=2", "#query/limit", "given 2 times; give it once"),
    ],
)
def test_the_answer_names_the_parameter_and_the_fix(client: TestClient, query: str, pointer: str, text: str) -> None:
    answer = client.get(f"/v1/audits?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert text in answer.json()["detail"]


def test_a_list_may_be_repeated(client: TestClient) -> None:
    assert client.get("/v1/audits?tag=a:b&tag=c:d&limit=3").status_code == 200


def test_every_mistake_is_listed(client: TestClient) -> None:
    answer = client.get("/v1/audits?limt=1&stat=queued")
    assert [one["pointer"] for one in answer.json()["errors"]] == ["#query/limt", "#query/stat"]


def test_pages_that_are_not_in_the_document_refuse_them_too(client: TestClient) -> None:
    assert client.get("/docs?x=1").status_code == 422
    assert client.get("/docs").status_code == 200
