"""The table of layers in the documentation says what Grad-CAM reads."""

from __future__ import annotations

import pytest

from auditcore.contracts.access import AccessRules
from auditcore.contracts.models import TimmModel, TorchvisionModel
from auditcore.models.loading import load_classifier
from benchmarks.layers import HEAD, PAGE, TIMM, TORCHVISION, line, row_of

KINDS = {"torchvision": TorchvisionModel, "timm": TimmModel}


def test_the_table_lists_every_model() -> None:
    page = PAGE.read_text()
    assert page.startswith(HEAD)
    listed = [row.split("|")[1:3] for row in page.removeprefix(HEAD).splitlines()]
    expected = [("torchvision", name) for name in TORCHVISION] + [("timm", name) for name in TIMM]
    assert [(library.strip(), name.strip()) for library, name in listed] == expected
    assert len(set(expected)) == len(expected) >= 40


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("torchvision", "squeezenet1_1"),
        ("torchvision", "mobilenet_v3_large"),
        ("timm", "skresnet18"),
        ("timm", "deit_tiny_distilled_patch16_224"),
        ("timm", "levit_128s"),
        ("timm", "mixer_s32_224"),
        ("timm", "crossvit_9_240"),
    ],
)
def test_a_row_is_what_the_model_gives(library: str, name: str) -> None:
    reference = KINDS[library].model_validate({"name": name, "weights": {"uri": "random:2"}})
    found = load_classifier(reference, access=AccessRules(), device="cpu")
    assert line(row_of(library, name, found)) in PAGE.read_text().splitlines()
