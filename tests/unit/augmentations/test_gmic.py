"""Filters of G'MIC: a replica of one, what all of them keep, and that nothing sent by a caller reaches a command."""

from __future__ import annotations

import sys
from typing import Any, get_args

import gmic as library
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from skimage import data
from torch import Tensor

import reference
from auditcore.augmentations import gmic
from auditcore.augmentations.registry import applicability, augment
from auditcore.contracts.augmentations import Brightness, Composition, Gmic, GmicFilter
from auditcore.errors import NotApplicable, ShapeError

FILTERS: tuple[GmicFilter, ...] = get_args(GmicFilter)


def photo(height: int, width: int) -> Tensor:
    return torch.from_numpy(data.chelsea()[60 : 60 + height, 100 : 100 + width]).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_sharpening_equals_its_definition(share: float) -> None:
    image = photo(24, 33)
    expected = reference.gmic_sharpen(image[0].double().numpy(), share)
    np.testing.assert_allclose(gmic.gmic(image, torch.tensor([share]), "sharpen")[0], expected, atol=1e-6)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_is_what_the_library_makes_of_a_picture_loaded_by_itself(name: GmicFilter, tmp_path: Any) -> None:
    # through a file, so that neither order of axes nor range of values is ours
    levels = data.chelsea()[60:124, 100:180]
    path = tmp_path / "photo.png"
    Image.fromarray(levels).save(path)
    (result,) = library.run(f"{path} {gmic.COMMANDS[name]}")
    expected = np.clip(np.array(result.to_numpy())[:, :, 0].transpose(2, 1, 0) / 255, 0, 1)
    found = gmic.gmic(photo(64, 80), torch.ones(1), name)[0]
    # an 8-bit picture divided by 255 and multiplied again is off by a float32 rounding
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert (found - photo(64, 80)[0]).abs().mean() > 0.005


@pytest.mark.parametrize("name", FILTERS)
def test_a_share_blends_and_the_result_stays_in_range(name: GmicFilter) -> None:
    image = photo(40, 30)
    none, half, whole = gmic.gmic(image.repeat(3, 1, 1, 1), torch.tensor([0.0, 0.5, 1.0]), name)
    assert torch.equal(none, image[0])
    torch.testing.assert_close(half, (image[0] + whole) / 2)
    assert 0 <= whole.min() <= whole.max() <= 1


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("color", [0.0, 0.4, 1.0])
def test_an_image_of_one_color_stays_finite(name: GmicFilter, color: float) -> None:
    changed = gmic.gmic(torch.full((1, 3, 12, 12), color), torch.ones(1), name)
    assert changed.isfinite().all()
    assert 0 <= changed.min() <= changed.max() <= 1


def test_consecutive_copies_are_filtered_once_and_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    real = library.run

    def run(command: str, images: Any) -> Any:
        ran.append(command)
        return real(command, images)

    first, second = photo(16, 16), photo(16, 16).flip(-1)
    batch = torch.cat([first, first, second, second, first])
    values = torch.tensor([1.0, 0.5, 1.0, 0.5, 1.0])
    alone = torch.cat(
        [gmic.gmic(image[None], value[None], "sharpen") for image, value in zip(batch, values, strict=True)]
    )
    monkeypatch.setattr(library, "run", run)
    assert torch.equal(gmic.gmic(batch, values, "sharpen"), alone)
    assert ran == ["sharpen 300"] * 3


def test_only_constant_commands_reach_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gmic.COMMANDS == {
        "freaky_details": "fx_freaky_details 2,10,1,11,0,32,0",
        "normalize_local": "normalize_local 8,10",
        "boost_chroma": "fx_boost_chroma 90,0,0",
        "mighty_details": "fx_mighty_details 25,1,25,1,11,0",
        "sharpen": "sharpen 300",
    }
    ran: list[str] = []
    real = library.run
    monkeypatch.setattr(library, "run", lambda command, images: [ran.append(command), real(command, images)][1])
    for name in FILTERS:
        augment(Gmic(filter=name), photo(12, 12), torch.tensor([0.123456]))
    assert ran == list(gmic.COMMANDS.values())


@pytest.mark.parametrize(
    "text", ["sharpen 300", "sharpen; exec 'id'", "fx_freaky_details", "", "../sharpen", "sharpen\n", "Sharpen"]
)
def test_no_text_of_a_caller_is_a_filter(text: str) -> None:
    with pytest.raises(ValidationError, match="filter"):
        Gmic.model_validate({"filter": text})
    with pytest.raises(ValidationError, match="command"):
        Gmic.model_validate({"filter": "sharpen", "command": text})


def test_without_the_package_the_augmentation_is_not_applicable(monkeypatch: pytest.MonkeyPatch) -> None:
    augmentation = Gmic(filter="sharpen")
    joined = Composition(first=Brightness(), second=augmentation)
    assert applicability(augmentation) is applicability(joined) is applicability(Brightness()) is None
    monkeypatch.setitem(sys.modules, "gmic", None)
    for missing in (augmentation, joined):
        assert "auditcore[gmic]" in (applicability(missing) or "")
    assert applicability(Brightness()) is None
    with pytest.raises(NotApplicable, match=r"auditcore\[gmic\]"):
        augment(augmentation, photo(8, 8), torch.ones(1))


def test_refuses_what_is_not_rgb() -> None:
    with pytest.raises(ShapeError, match="3 channels"):
        gmic.gmic(torch.rand(1, 1, 8, 8), torch.ones(1), "sharpen")
