"""Weights are read from pickled modules, and no code that is pickled with them is run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import digits
from auditcore.errors import ModelNotLoadable, UnsafeReference
from auditcore.models.loaders.checkpoints import fill
from auditcore.models.loaders.pickled import Inert, read_inert, state_of_module
from auditcore.models.loaders.weights import read_checkpoint, read_tensors


def same(state: dict[str, torch.Tensor], module: nn.Module) -> None:
    expected = module.state_dict()
    assert set(state) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value)


def read_module(path: Path) -> dict[str, torch.Tensor]:
    found = read_inert(path, field="x")
    assert isinstance(found, Inert)
    return state_of_module(found)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_module_gives_its_state_dict(tmp_path: Path, *, zipped: bool) -> None:
    path = tmp_path / "model.pth"
    torch.save(digits.trained(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeReference):
        read_tensors(path, field="x")
    same(read_module(path), digits.trained())


def test_buffers_that_are_not_kept_are_left_out(tmp_path: Path) -> None:
    module = nn.BatchNorm2d(3)
    module.register_buffer("cache", torch.zeros(2), persistent=False)
    path = tmp_path / "model.pth"
    torch.save(module, path)
    same(read_module(path), module)


def test_a_checkpoint_with_a_pickled_module_inside_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": digits.trained(), "epoch": 3}, path)
    module = digits.build()
    fill(module, read_inert(path, field="x"), field="x")
    same(module.state_dict(), digits.trained())


class Malicious:
    """Creates a file when it is unpickled, by one of several ways."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = call
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def attacks(mark: Path) -> list[Malicious]:
    return [
        Malicious(os.system, f"touch {mark}"),
        Malicious(eval, f"open({str(mark)!r}, 'w')"),
        Malicious(exec, f"open({str(mark)!r}, 'w')"),
        Malicious(getattr, Malicious(__import__, "os"), "system"),
        Malicious(open, str(mark), "w"),
        Malicious(torch.load, str(mark)),
        Malicious(map, os.system, [f"touch {mark}"]),
    ]


@pytest.mark.parametrize("number", range(7))
def test_hostile_pickles_do_nothing(tmp_path: Path, number: int) -> None:
    mark, path = tmp_path / "mark", tmp_path / "model.pth"
    torch.save({"state_dict": {"weight": torch.ones(2)}, "extra": attacks(mark)[number]}, path)
    content: Any = read_inert(path, field="x")
    assert content["state_dict"]["weight"].tolist() == [1, 1]
    assert not mark.exists()
    # and a bare pickle, which is not even an archive
    path.write_bytes(pickle.dumps(attacks(mark)[number]))
    with pytest.raises((ModelNotLoadable, UnsafeReference)):
        read_checkpoint(path, field="model.uri")
    assert not mark.exists()


def test_a_file_without_weights_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(nn.ReLU(), path)
    with pytest.raises(UnsafeReference, match="holds more than tensors") as caught:
        read_checkpoint(path, field="model.uri")
    assert caught.value.field == "model.uri"
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelNotLoadable, match="no weights can be read"):
        read_inert(path, field="model.uri")


@pytest.mark.parametrize("read", [read_tensors, read_inert])
def test_archives_that_would_be_unpacked_without_a_limit_are_refused(tmp_path: Path, read: Any) -> None:
    plain, squeezed, tar = (tmp_path / name for name in ("plain.pt", "squeezed.pt", "tar.pt"))
    torch.save({"weight": torch.zeros(1000)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(ModelNotLoadable, match="compressed"):
        read(squeezed, field="x")
    with tarfile.open(tar, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    with pytest.raises(ModelNotLoadable, match="tar archive"):
        read(tar, field="x")


def test_a_number_in_a_pickle_reserves_no_memory(tmp_path: Path) -> None:
    """The unpickler in C makes a table as long as the largest place that a file remembers something at."""
    path = tmp_path / "model.pth"
    torch.save({"weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    # an empty dictionary, remembered far away; then a class, so that torch.load refuses it and the inert reader begins
    remembered = b"\x80\x02}r" + struct.pack("<I", 2**22) + b"X\x01\x00\x00\x00acbuiltins\nset\ns."
    path.write_bytes(path.read_bytes().replace(b"\x80\x02}q\x00X\x06", remembered + b"\x80\x02}q\x00X\x06"))
    tracemalloc.start()
    try:
        with pytest.raises((ModelNotLoadable, UnsafeReference)):
            read_checkpoint(path, field="model.weights.uri")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20


def test_a_file_that_claims_more_values_than_it_has_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"weight": torch.zeros(6)}, path, _use_new_zipfile_serialization=False)
    assert read_checkpoint(path, field="model.weights.uri")
    # the number of values, as the pickle writes small ones and large ones
    path.write_bytes(path.read_bytes().replace(b"cpuq\x06K\x06", b"cpuq\x06J" + struct.pack("<i", 2**24), 1))
    with pytest.raises(ModelNotLoadable, match="claims to hold 16777216 values, but it has"):
        read_checkpoint(path, field="model.weights.uri")
