"""What reports call images, and the batch that inline images form."""

from __future__ import annotations

import base64

import pytest

from auditcore.contracts.image_names import NAME_LENGTH, file_name, short_name, uri_name
from auditcore.contracts.images import InlineImage, inline_manifest
from auditcore.errors import InvalidRequest


def inline(data: bytes) -> InlineImage:
    return InlineImage.model_validate({"data": base64.b64encode(data).decode(), "label": 3})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("photos/cat.png", "cat.png"),
        ("C:\\photos\\cat.png", "cat.png"),
        ("cat.png", "cat.png"),
        (f"photos/{'c' * 300}.png", f"{'c' * (NAME_LENGTH - 4)}.png"),
    ],
)
def test_an_image_is_named_after_the_last_part_of_its_path(path: str, name: str) -> None:
    assert file_name(path) == name


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://example.org/photos/cat.png", "cat.png"),
        ("https://example.org/photos/cat.png?X-Amz-Signature=5ec4e7#part", "cat.png"),
        ("https://example.org/photos/cat%20and%20dog.png", "cat and dog.png"),
        ("file:///photos/M%C3%BCller%3F.png", "Müller?.png"),
        ("file:///photos/a%2Fb.png", "b.png"),
        ("file:///photos/a%0Ab.png", "a%0Ab.png"),
        ("s3://bucket/50%25?.png", "50%25?.png"),
        (f"s3://bucket/{'c' * 300}.png", f"{'c' * (NAME_LENGTH - 4)}.png"),
        ("package:skimage/data/coffee.png", "coffee.png"),
    ],
)
def test_an_image_at_a_uri_is_named_as_people_write_it(uri: str, name: str) -> None:
    assert uri_name(uri) == name


def test_a_name_keeps_its_folders_and_its_ending() -> None:
    assert short_name("folder/cat.png") == "folder/cat.png"
    assert short_name(f"{'c' * 300}.png") == f"{'c' * 251}.png"


def test_inline_images_form_the_batch_that_a_service_stores() -> None:
    entries = inline_manifest([inline(b"one"), inline(b"two")]).entries
    assert [(one.name, one.size_bytes, one.label) for one in entries] == [("inline-0", 3, 3), ("inline-1", 3, 3)]
    assert entries[0].digest != entries[1].digest


def test_an_empty_inline_image_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        inline_manifest([inline(b"one"), inline(b"")])
    assert caught.value.field == "images.images.1.data"
