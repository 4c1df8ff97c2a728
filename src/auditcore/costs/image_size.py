"""How the cost of a pass grows with the image that the model sees.

A convolution does the same work at every position, so its cost follows the pixels. A transformer with global attention
does some work for each token and some for each pair of tokens. Channels do not count: only the first layer sees them.
"""

from __future__ import annotations

import re

from auditcore.contracts.input_shape import TYPICAL, InputShape
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import DemoModel

_ATTENTION = re.compile(r"(?:^|[^a-z])(?:vit|deit3?|beit(?:v2)?|eva(?:02)?|dino(?:v2|v3)?|cait|siglip|clip)(?![a-z])")
"""Names of architectures in which every token attends to every other. Swin and its like attend within windows, so that
their cost follows the pixels, as that of convolutions does."""

_WIDTHS = {"tiny": 192, "ti": 192, "small": 384, "s": 384, "base": 768, "b": 768, "large": 1024, "l": 1024}
_WIDTHS |= {"huge": 1280, "h": 1280, "giant": 1408, "g": 1408}
_WIDTH = re.compile(rf"[_-]({'|'.join(sorted(_WIDTHS, key=len, reverse=True))})(?![a-z])")
_TYPICAL_WIDTH = 768
"""Numbers per token, by the size in the architecture's name (Dosovitskiy et al. 2021, table 1; Touvron et al. 2021)."""

_PATCH = re.compile(r"(?:patch|_[a-z]{1,2}_)(\d{1,2})(?!\d)")
_TYPICAL_PATCH_PX = 16


def input_shape_of(reference: ModelReference) -> InputShape:
    """The input shape that a reference declares; `TYPICAL` if only the loaded model can tell."""
    spelled = reference.as_factory() if isinstance(reference, DemoModel) else reference
    return TYPICAL if spelled.preprocessing is None else spelled.preprocessing.shape


def size_factor(reference: ModelReference, shape: InputShape) -> float:
    """Cost of a pass through a model at an input shape, relative to its cost at `TYPICAL`.

    Multiply-adds of a transformer's block: 12 n d^2 for n tokens of d numbers, and 2 n^2 d for their attention. So a
    token costs 1 + n / (6 d) times what it would cost without attention.

    Args:
        reference: The model; the names in it say whether it has global attention.
        shape: Channels, height and width of its input.
    """
    name = _architecture_of(reference)
    if _ATTENTION.search(name) is None:
        return shape.pixels / TYPICAL.pixels
    width, patch = _WIDTH.search(name), _PATCH.search(name)
    numbers = _TYPICAL_WIDTH if width is None else _WIDTHS[width[1]]
    patch_px = _TYPICAL_PATCH_PX if patch is None else int(patch[1])

    def cost(seen: InputShape) -> float:
        tokens = seen.pixels / patch_px**2
        return tokens * (1 + tokens / (6 * numbers))

    return cost(shape) / cost(TYPICAL)


def assumed_passes_per_s(passes_per_s: float, reference: ModelReference) -> float:
    """Forward passes per second that are assumed of a model that no worker has run.

    Models for smaller images do more work per pixel, so that they are not taken to be faster.

    Args:
        passes_per_s: What the operator assumes at `TYPICAL`.
        reference: The model.
    """
    return passes_per_s / max(1.0, size_factor(reference, input_shape_of(reference)))


def _architecture_of(reference: ModelReference) -> str:
    """Every name in a reference that may say what the model is, in lower case."""
    architecture = getattr(reference, "architecture", None)
    names = [
        getattr(one, field, None) for one in (reference, architecture) for field in ("name", "target", "repo", "uri")
    ]
    arguments = [value for one in (reference, architecture) for value in getattr(one, "args", ())]
    return " ".join(str(name) for name in (*names, *arguments) if name is not None).lower()
