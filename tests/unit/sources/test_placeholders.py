"""Files that stand for another file are told from damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditcore.contracts.access import AccessRules
from auditcore.errors import ModelNotLoadable
from auditcore.sources.fetching import open_resource


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Sign in", "web page.*direct address"),
        (b"", "empty"),
    ],
)
def test_a_file_in_place_of_a_model_is_named(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    access = AccessRules(file_roots=(tmp_path,))
    with pytest.raises(ModelNotLoadable, match=match) as caught:
        open_resource(path.as_uri(), access=access, field="model.uri", limit_bytes=1000)
    assert caught.value.field == "model.uri"
