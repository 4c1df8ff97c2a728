"""Token files: a bare token, TorchServe's keys, and what is neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditcore.errors import UnreachableResource
from auditcore.sources.servers.tokens import TokenFile

KEYS = {
    "management": {"key": "manage", "expiration time": "2026-11-25T13:00:00Z"},
    "inference": {"key": "infer", "expiration time": "2026-11-25T13:00:00Z"},
    "API": {"key": "api"},
}


def test_a_bare_token_is_read_without_the_line_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  abc.DEF-123_~+/=\n")
    assert TokenFile(path).read() == "abc.DEF-123_~+/="


def test_each_api_of_torchserve_has_its_own_key(tmp_path: Path) -> None:
    path = tmp_path / "key_file.json"
    path.write_text(json.dumps(KEYS))
    assert TokenFile(path).read() == "infer"
    assert TokenFile(path, "management").read() == "manage"


def test_the_file_is_read_each_time_and_through_a_link_that_moved(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "token"
    link.symlink_to("one")
    token = TokenFile(link)
    assert token.read() == "one"
    link.unlink()
    link.symlink_to("two")
    assert token.read() == "two"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "holds no token; write the bare token"),
        (b"\n\n", "holds no token"),
        (b"two words", "holds no token"),
        (b"first\r\nInjected: header", "holds no token"),
        ("schlüssel".encode(), "holds no token"),
        (b"\xff\xfe", "no token can be read from"),
        (b"{broken", "has no key for 'inference'; name the key_file.json"),
        (b'{"management": {"key": "m"}}', "has no key for 'inference'"),
        (b'{"inference": "bare"}', "has no key for 'inference'"),
        (b'{"inference": {"key": ""}}', "holds no token"),
    ],
)
def test_a_file_without_a_token_says_what_to_write(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(UnreachableResource, match=match) as caught:
        TokenFile(path).read()
    assert caught.value.field == "model.token_file"
    assert "Injected" not in str(caught.value)


@pytest.mark.parametrize("make", [lambda _: None, Path.mkdir], ids=["missing", "folder"])
def test_a_file_that_cannot_be_read_says_to_check_the_path(tmp_path: Path, make: object) -> None:
    path = tmp_path / "token"
    make(path)  # type: ignore[operator]
    with pytest.raises(UnreachableResource, match="check the path and its permissions"):
        TokenFile(path).read()


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"a" * 10_000_000)
    assert len(TokenFile(path).read()) == 65_536
