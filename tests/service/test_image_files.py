"""Names of files, and which files of folders and archives are images."""

from __future__ import annotations

import io
import os
import unicodedata
import zipfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import digits
from auditcore.contracts.image_names import fault_of_name
from auditcore.images.decode import FORMATS
from auditcore_service.cli.found_images import find_images, show_passed_over
from auditcore_service.cli.outcome import CommandError
from auditcore_service.use_cases.image_files import (
    HEADER_BYTES,
    has_image_header,
    is_hidden,
    is_system_file,
)
from auditcore_service.use_cases.image_names import ImageNames
from auditcore_service.use_cases.refusals import InvalidUpload
from auditcore_service.use_cases.text_encoding import decode_text

PATH = "/v1/image-batches"

NAMES = (
    "Screen Shot 9.41.07\u202fPM.png",  # macOS writes a narrow space before AM and PM
    "Capture d\u2019e\u0301cran a\u0300 17\u00a0h.png",
    "\U0001f3f3\ufe0f\u200d\U0001f308.png",  # a flag of four characters: joiner and variation selector
    "scan 2026-01-01T10:41:00.png",
    "صورة\u200f.png",
    "写真\u3000一.png",
    "\U000323af.png",  # assigned in no version of Unicode that Python 3.11 knows
)
SYSTEM = (
    ".DS_Store",
    "photos/.DS_Store",
    "photos/Thumbs.db",
    "photos/2/desktop.ini",
    "Photos/Desktop.ini",
    "__MACOSX/photos/._1.png",
    "photos/._1.png",
    "photos/Icon\r",
    "$RECYCLE.BIN/1.png",
    "photos/@eaDir/1.png",
    "CD/DICOMDIR",
)


def zipped(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def send(client: TestClient, archive: bytes, **data: str) -> dict[str, object]:
    answer = client.post(PATH, files=[("archive", ("photos.zip", archive, "application/zip"))], data=data)
    assert answer.status_code == 201, answer.text
    found: dict[str, object] = answer.json()
    return found


def names(answer: dict[str, object]) -> list[str]:
    return [entry["name"] for entry in answer["entries"]]  # type: ignore[attr-defined, index]


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_have_any_name_that_is_text(client: TestClient, name: str) -> None:
    part = client.post(PATH, files=[("images", (name, digits.png(0), "image/png"))])
    assert part.status_code == 201, part.text
    assert names(part.json()) == [name]
    assert names(send(client, zipped((f"photos/{name}", digits.png(0))))) == [f"photos/{name}"]


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\x7f", "\x85", "\uffff", "\ud800"])
def test_a_name_with_a_control_character_is_refused(client: TestClient, character: str) -> None:
    assert f"U+{ord(character):04X}" in str(fault_of_name(f"a{character}.png"))
    if character == "\x1b":
        answer = client.post(PATH, files=[("archive", ("a.zip", zipped(("a\x1b[2J.png", b"x")), "application/zip"))])
        assert answer.status_code == 422
        assert "U+001B" in answer.json()["detail"]


@given(st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), min_size=1))
def test_only_control_characters_are_refused(text: str) -> None:
    assert fault_of_name(text[:255]) is None


def test_folders_of_windows_archives_are_folders(client: TestClient) -> None:
    data = zipped(("cats\\1.png", digits.png(0)), ("dogs\\old\\1.png", digits.png(1)))
    assert names(send(client, data, labels='{"cats/1.png": 1, "dogs\\\\old\\\\1.png": 2}')) == [
        "cats/1.png",
        "dogs/old/1.png",
    ]


def test_names_in_utf8_without_the_flag_are_read_as_utf8(client: TestClient) -> None:
    name = unicodedata.normalize("NFD", "Snímek č. 2.png")
    data = bytearray(zipped((name, digits.png(0))))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature) + offset
        data[at : at + 2] = (int.from_bytes(data[at : at + 2], "little") & ~0x800).to_bytes(2, "little")
    answer = send(client, bytes(data), labels='{"Snímek č. 2.png": 7}')
    assert names(answer) == [name]
    assert answer["entries"][0]["label"] == 7  # type: ignore[index]


@pytest.mark.parametrize("name", SYSTEM)
def test_files_of_operating_systems_are_skipped(client: TestClient, name: str) -> None:
    assert is_system_file(name)
    archive = zipped((name, b"\0"), ("photos/1.png", digits.png(0)), ("photos/2.png", digits.png(1)))
    answer = send(client, archive, labels="[3, 4]")
    assert names(answer) == ["photos/1.png", "photos/2.png"]
    assert "passed_over" not in answer


@pytest.mark.parametrize("path", [".a.png", "photos/.a.png", ".thumbnails/a.png", "photos/.git/a.png"])
def test_hidden_files_of_an_archive_are_skipped(client: TestClient, path: str) -> None:
    assert is_hidden(path)
    assert names(send(client, zipped((path, digits.png(0)), ("1.png", digits.png(1))))) == ["1.png"]


@pytest.mark.parametrize("path", ["a.png", "./a.png", "photos/a..png", "Thumbs/a.png", "my_desktop.ini.png"])
def test_other_files_are_not_skipped(path: str) -> None:
    assert not is_system_file(path)
    assert not is_hidden(path)


def test_what_a_browser_sends_with_a_folder_is_skipped(client: TestClient) -> None:
    parts = [
        ("images", (".DS_Store", b"\0\0\0\1Bud1", "application/octet-stream")),
        ("images", ("._1.png", b"\0\5\x16\7", "image/png")),
        ("images", (".1.png", digits.png(0), "image/png")),
    ]
    assert names(client.post(PATH, files=parts, data={"labels": "[3]"}).json()) == [".1.png"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_with_another_ending_is_an_image_if_it_begins_like_one(client: TestClient, kind: str) -> None:
    data = encoded(kind)
    assert has_image_header(data[:HEADER_BYTES])
    answer = send(client, zipped(("scan", data), ("scan.jfif", data), ("notes.txt", b"BM is no bitmap")))
    assert names(answer) == ["scan", "scan.jfif"]
    assert answer["passed_over"] == ["notes.txt"]


@pytest.mark.parametrize("data", [b"", b"BM", b"%PDF-1.7", b"RIFF\0\0\0\0WAVEfmt ", b"BMW and Audi, 2026", b"\0" * 16])
def test_other_content_is_not_an_image(data: bytes) -> None:
    assert not has_image_header(data[:HEADER_BYTES])


def test_an_archive_without_an_image_says_what_it_has(client: TestClient) -> None:
    archive = zipped(("labels.csv", b"file,label"), ("readme.md", b"#"))
    answer = client.post(PATH, files=[("archive", ("a.zip", archive, "application/zip"))])
    assert answer.status_code == 422
    assert "no image among 2 files, such as 'labels.csv'" in answer.json()["detail"]


def test_a_folder_is_scanned_like_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (*NAMES, "scan", "b.PNG"):
        (tmp_path / name).write_bytes(digits.png(0))
    for name in (".DS_Store", ".hidden.png", "Thumbs.db", "desktop.ini", "._b.PNG", "notes.txt"):
        (tmp_path / name).write_bytes(b"\0")
    (tmp_path / "more").mkdir()
    found = find_images([tmp_path])
    assert [file.name for file in found.files] == sorted([*NAMES, "scan", "b.PNG"])
    assert found.passed_over == ("more/", "notes.txt")
    show_passed_over(found)
    assert "notes.txt" in capsys.readouterr().err


def test_files_that_a_shell_names_are_scanned_too(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(digits.png(0))
    (tmp_path / "Thumbs.db").write_bytes(b"\0")
    assert [file.name for file in find_images(sorted(tmp_path.iterdir())).files] == ["a.png"]
    with pytest.raises(CommandError, match="no image file among"):
        find_images([tmp_path / "Thumbs.db"])


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(CommandError, match=r"no image file.*notes\.txt"):
        find_images([tmp_path])


def test_a_name_that_is_not_utf8_is_shown_with_replacements(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(digits.png(0))
    (file,) = find_images([tmp_path]).files
    assert file.name == "caf\N{REPLACEMENT CHARACTER}.png"
    assert file.path.read_bytes() == digits.png(0)
    (tmp_path / "a\nb.png").write_bytes(digits.png(0))
    with pytest.raises(CommandError, match=r"U\+000A; rename"):
        find_images([tmp_path])


def test_names_of_images_are_found_with_and_without_their_folder() -> None:
    known = ImageNames(("cats/1.png", "dogs/1.png", "dogs/2.png", "3.png", "caf\u00e9.png"))
    assert known.position("dogs/1.png", "labels") == 1
    assert known.position("2.png", "labels") == 2
    assert known.position("anywhere/3.png", "labels") == 3
    assert known.position("cafe\u0301.png", "labels") == 4
    for name, words in (("1.png", "2 images"), ("birds/2.png", "no image"), ("4.png", "no image")):
        with pytest.raises(InvalidUpload, match=words) as caught:
            known.position(name, "labels")
        assert caught.value.field == "labels"


def test_capital_letters_matter_only_where_names_differ_in_nothing_else() -> None:
    known = ImageNames(("Cat.PNG", "dog.png", "DOG.png"))
    assert known.position("cat.png", "labels") == 0
    assert known.position("DOG.png", "labels") == 2
    with pytest.raises(InvalidUpload, match="2 images"):
        known.position("Dog.png", "labels")


def test_a_name_that_fits_exactly_comes_before_one_that_fits_without_its_folder() -> None:
    known = ImageNames(("cats/1.png", "1.png"))
    assert known.position("1.png", "boxes") == 1
    assert known.position("cats/1.png", "boxes") == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_in_what_editors_write(encoding: str) -> None:
    text = '{"é.png": 1}'
    assert decode_text(text.encode(encoding)) == text


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_text(b"\x89PNG")
