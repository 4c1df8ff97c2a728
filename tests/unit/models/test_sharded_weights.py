"""Weights in several files of safetensors, named by an index beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import digits
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.models import FactoryModel
from auditcore.errors import (
    DigestMismatch,
    InputError,
    InvalidRequest,
    LimitExceeded,
    ModelNotLoadable,
    UnreachableResource,
    UnsafeReference,
)
from auditcore.models.loading import load_classifier
from auditcore.sources.resolving import resolve_model

INDEX = "model.safetensors.index.json"
STATE = digits.trained().state_dict()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the weights in two files."""
    models = tmp_path / "models"
    models.mkdir()
    names = list(STATE)
    places: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: STATE[name] for name in part}, models / file)
        places |= dict.fromkeys(part, file)
    (models / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return models


def reference(folder: Path) -> FactoryModel:
    return digits.reference(folder / INDEX)


def resolved(folder: Path) -> FactoryModel:
    found = resolve_model(reference(folder), digits.access(folder)).reference
    assert isinstance(found, FactoryModel)
    return found


def refused(folder: Path, error: type[InputError], match: str) -> str:
    with pytest.raises(error, match=match) as caught:
        load_classifier(reference(folder), access=digits.access(folder))
    return caught.value.field


def rename(folder: Path, name: str) -> None:
    """Let the index place all tensors in another file."""
    places = json.loads((folder / INDEX).read_text())["weight_map"]
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(places, name)}))


def test_several_files_are_one_state_dict(folder: Path, tmp_path: Path) -> None:
    whole = load_classifier(digits.reference(digits.write_weights(tmp_path)), access=digits.access(tmp_path))
    parts = load_classifier(resolved(folder), access=digits.access(folder))
    assert parts.digest == whole.digest
    assert parts.notes == ()


def test_every_file_is_pinned(folder: Path) -> None:
    weights = resolved(folder).weights
    assert {part.name: part.sha256 for part in weights.parts} == {
        path.name: sha256(path.read_bytes()) for path in folder.glob("*.safetensors")
    }
    pinned = resolved(folder)
    changed = {name: value + 1 for name, value in list(STATE.items())[::2]}
    save_file(changed, folder / "model-00001-of-00002.safetensors")
    with pytest.raises(DigestMismatch) as caught:
        load_classifier(pinned, access=digits.access(folder))
    assert caught.value.field == "model.weights.parts"
    other = pinned.model_copy(update={"weights": weights.model_copy(update={"parts": weights.parts[1:]})})
    with pytest.raises(InvalidRequest, match="no digest of 'model-00001"):
        load_classifier(other, access=digits.access(folder))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", ".hidden", "a/b", "s3://bucket/key"])
def test_an_index_names_only_files_beside_it(name: str, folder: Path) -> None:
    save_file(STATE, folder.parent / "secret.safetensors")
    rename(folder, name)
    assert refused(folder, UnsafeReference, "not the plain name") == "model.weights.uri"
    with pytest.raises(UnsafeReference, match="not the plain name"):
        resolved(folder)


def test_a_link_does_not_lead_out_of_the_allowed_folders(folder: Path) -> None:
    save_file(STATE, folder.parent / "secret.safetensors")
    (folder / "linked.safetensors").symlink_to(folder.parent / "secret.safetensors")
    rename(folder, "linked.safetensors")
    assert refused(folder, UnsafeReference, "AUDIT_FILE_ROOTS") == "model.weights.uri"


def test_what_is_missing_or_damaged_is_reported(folder: Path) -> None:
    rename(folder, "model-00001-of-00002.safetensors")
    refused(folder, ModelNotLoadable, "which does not hold it")
    rename(folder, "other.safetensors")
    refused(folder, UnreachableResource, "no file can be read")
    with pytest.raises(UnreachableResource, match="copy it there"):
        resolved(folder)
    torch.save(STATE, folder / "other.safetensors")
    refused(folder, ModelNotLoadable, "damaged")


@pytest.mark.parametrize("content", [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": 1}}])
def test_other_json_is_no_index(content: Any, folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps(content))
    assert refused(folder, ModelNotLoadable, "no index of safetensors") == "model.weights.uri"


def test_all_files_together_have_the_size_of_one(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir())
    rules = digits.access(folder)
    for limit, fits in ((size, True), (size - 1, False)):
        access = type(rules).model_validate({**rules.model_dump(), "limits": {"weights_bytes": limit}})
        if fits:
            load_classifier(reference(folder), access=access)
        else:
            with pytest.raises(LimitExceeded):
                load_classifier(reference(folder), access=access)
