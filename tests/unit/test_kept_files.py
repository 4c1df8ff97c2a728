"""Kept files in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditcore.errors import InvalidRequest
from auditcore.kept_files import KeptFolder, KeptInMemory


def test_a_kept_file_is_read_again_by_another_process_and_can_be_forgotten(tmp_path: Path) -> None:
    KeptFolder(tmp_path).keep("trainings/mixup-0.json", b"first")
    KeptFolder(tmp_path).keep("trainings/mixup-0.json", b"second")
    again = KeptFolder(tmp_path)
    assert again.read("trainings/mixup-0.json") == b"second"
    again.forget("trainings/mixup-0.json")
    again.forget("trainings/mixup-0.json")
    assert again.read("trainings/mixup-0.json") is None


def test_a_kept_file_is_named_as_a_file_that_is_there(tmp_path: Path) -> None:
    kept = KeptFolder(tmp_path)
    with pytest.raises(KeyError, match="weights"):
        kept.uri("weights")
    kept.keep("weights", b"1")
    assert kept.uri("weights") == (tmp_path / "weights").as_uri()


def test_a_full_disk_keeps_the_file_before_and_says_how_to_go_on(tmp_path: Path) -> None:
    kept = KeptFolder(tmp_path)
    kept.keep("report.json", b"first")
    (tmp_path / "report.json.part").symlink_to("/dev/full")
    with pytest.raises(InvalidRequest, match=r"No space left on device.*make room") as caught:
        kept.keep("report.json", b"second")
    assert caught.value.field == "out"
    assert kept.read("report.json") == b"first"


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(InvalidRequest, match=r"cannot be read \(Not a directory\); name a folder") as caught:
        KeptFolder(tmp_path / "file").read("report.json")
    assert caught.value.field == "out"


def test_files_in_memory_are_read_and_forgotten_and_have_no_address() -> None:
    kept = KeptInMemory()
    kept.keep("report.json", b"first")
    kept.keep("report.json", b"second")
    assert kept.read("report.json") == b"second"
    with pytest.raises(KeyError, match="report"):
        kept.uri("report.json")
    kept.forget("report.json")
    kept.forget("report.json")
    assert kept.read("report.json") is None
