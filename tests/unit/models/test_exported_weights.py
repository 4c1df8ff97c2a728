"""Weights out of programs of torch.export, as MLflow keeps them, read as bytes and a description."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import digits
from auditcore.errors import ModelNotLoadable
from auditcore.models.loaders.exported_weights import is_exported, read_exported_weights
from auditcore.models.loaders.found_weights import read_found_weights

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


class Mixed(nn.Module):
    """Weights of several types, tied, sliced, empty and of one value."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        whole = torch.arange(24.0).reshape(4, 6)
        self.sliced = nn.Parameter(whole.t()[1:5])
        self.register_buffer("rounded", torch.arange(4.0).to(torch.bfloat16))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("flag", torch.tensor([True, False, True, True]))
        self.register_buffer("one", torch.tensor(0.5))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        mixed = self.second(self.first(self.norm(inputs))) @ self.sliced
        return mixed * self.rounded.float() * self.flag + self.one + self.empty.sum()


def export(module: nn.Module, path: Path, example: torch.Tensor) -> Path:
    torch.export.save(torch.export.export(module.eval(), (example,)), path)
    return path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(Mixed(), tmp_path_factory.mktemp("exported") / "model.pt2", torch.ones(2, 4))


def test_every_weight_is_there_for_any_type_and_layout(mixed: Path) -> None:
    expected = torch.export.load(mixed).state_dict
    state = read_exported_weights(mixed, field="x")
    assert set(state) == set(expected)
    for name, value in expected.items():
        assert state[name].dtype == value.dtype
        assert torch.equal(state[name], value), name


def test_the_program_of_a_model_gives_its_state_dict(tmp_path: Path) -> None:
    path = export(digits.trained(), tmp_path / "model.pt2", torch.zeros(2, 3, digits.SIDE, digits.SIDE))
    state = read_found_weights(path, field="x")
    for name, value in digits.trained().state_dict().items():
        assert torch.equal(state[name], value), name


def test_weights_in_another_format_are_not_a_program(tmp_path: Path) -> None:
    torch.save(digits.trained().state_dict(), tmp_path / "weights.pt")
    assert not is_exported(tmp_path / "weights.pt")
    (tmp_path / "text").write_text("nothing")
    assert not is_exported(tmp_path / "text")


def rewritten(source: Path, path: Path, change: Callable[[dict[str, Any]], None], *, compress: bool = False) -> Path:
    """The same program with another description of its weights."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("_weights_config.json"):
                config = json.loads(content)
                change(config["config"])
                content = json.dumps(config).encode()
            new.writestr(entry.filename, content, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
    return path


def huge(config: dict[str, Any]) -> None:
    config["one"]["tensor_meta"]["sizes"] = [{"as_int": 2**40}]
    config["one"]["tensor_meta"]["strides"] = [{"as_int": 0}]


def beyond(config: dict[str, Any]) -> None:
    config["sliced"]["tensor_meta"]["storage_offset"] = {"as_int": 2**20}


def empty_and_huge(config: dict[str, Any]) -> None:
    config["empty"]["tensor_meta"]["sizes"] = [{"as_int": 2**40}]


def negative(config: dict[str, Any]) -> None:
    config["one"]["tensor_meta"]["sizes"] = [{"as_int": -1}]
    config["one"]["tensor_meta"]["strides"] = [{"as_int": 1}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (huge, "more values than are stored"),
        (empty_and_huge, "more values than are stored"),
        (beyond, "damaged"),
        (negative, "damaged"),
        (lambda config: config["rounded"]["tensor_meta"].update(dtype=14), "not a plain tensor"),
        (lambda config: config["rounded"].update(use_pickle=True), "not a plain tensor"),
        (lambda config: config["rounded"].update(path_name="elsewhere"), "damaged"),
        (lambda config: config["rounded"].pop("tensor_meta"), "damaged"),
    ],
)
def test_a_wrong_description_is_reported(
    mixed: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    path = rewritten(mixed, tmp_path / "model.pt2", change)
    with pytest.raises(ModelNotLoadable, match=said) as caught:
        read_exported_weights(path, field="model.uri")
    assert caught.value.field == "model.uri"


def test_compressed_programs_and_older_ones_are_refused(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoadable, match="compressed"):
        read_found_weights(rewritten(mixed, tmp_path / "a.pt2", lambda _: None, compress=True), field="x")
    with zipfile.ZipFile(tmp_path / "b.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(ModelNotLoadable, match=r"older torch.*2\.10"):
        read_found_weights(tmp_path / "b.pt2", field="x")
