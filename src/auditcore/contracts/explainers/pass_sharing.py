"""Passes of the maps of one image by several methods together, each shared pass counted once."""

from __future__ import annotations

from collections.abc import Iterable

from auditcore.contracts.explainers.explainer import PLAIN_PASS, ExplainerContract
from auditcore.contracts.image_colors import ImageColor
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, LOGITS, NOTHING, Passes, total


def map_passes(
    explainers: Iterable[ExplainerContract],
    *,
    original: bool = False,
    logits_known: bool = False,
    reads_logits: bool = False,
    shape: InputShape,
) -> Passes:
    """Passes of the maps of one image by several explainers together.

    Args:
        explainers: The explainers.
        original: Whether the image is an original, of which the diagnostics are read.
        logits_known: Whether the logits of the image are known already, as those of an original are.
        reads_logits: Whether a check reads the logits too, such as for a probability curve.
        shape: Channels, height and width of the model's input.
    """
    listed = list(explainers)
    read = frozenset().union(*(explainer.shared_passes for explainer in listed))
    plain, guided = bool(read & PLAIN_PASS), "guided_gradient" in read
    shared = [GRADIENT if plain else NOTHING, GRADIENT if guided else NOTHING]
    if (reads_logits or "logits" in read) and not plain and not logits_known:
        shared.append(LOGITS)
    return total([*(explainer.own_passes(original=original, shape=shape) for explainer in listed), *shared])


def reads_plain_pass(explainers: Iterable[ExplainerContract]) -> bool:
    """Whether a method reads the pass through the plain model and back."""
    return any(explainer.shared_passes & PLAIN_PASS for explainer in explainers)


def colors_read(explainers: Iterable[ExplainerContract], *, original: bool = True) -> frozenset[ImageColor]:
    """Colors of whole images whose logits the methods read.

    Args:
        explainers: Which.
        original: Whether the images that they explain are originals.
    """
    read = (explainer.color_read(original=original) for explainer in explainers)
    return frozenset(color for color in read if color is not None)
