"""Quantus compared with the engine, where both measure the same: pixel flipping and max-sensitivity of the gradient.

Quantus 0.6 counts channel values where we count pixels: both make 42 steps here, but which values a step removes
differs. Its curve goes to the last value, so the engine runs here with share 1. Its default for sensitivity is 200
draws of radius 0.2; it is given our 10 of 0.02, in normalized space. It does not divide by the norm of the map, which
costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import quantus
import torch
from captum import attr
from numpy.typing import NDArray
from torch import Tensor, nn

from auditcore.contracts.access import Limits
from auditcore.contracts.checks import PixelFlippingCheck, SensitivityCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.plan import AuditPlan
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from benchmarks import ours
from benchmarks.timing import drain

Map = NDArray[np.float32]

STEPS, DRAWS, RADIUS = 42, 10, 0.02
"""The number of values must be a multiple of Quantus's step, and so must the number of pixels."""


def compare(classifier: Classifier, module: nn.Module, photos: Sequence[EncodedImage]) -> list[dict[str, object]]:
    """Both checks, by Quantus and by the engine, one after the other.

    Args:
        classifier: For the engine.
        module: The bare model, for Quantus.
        photos: The same for both.
    """
    pixels = decode_batch(photos, classifier.preprocessing, Limits()).pixels.to(classifier.device)
    x = classifier.normalize(pixels)
    with torch.no_grad():
        targets = module(x).argmax(1).cpu().numpy()
    inputs: NDArray[np.float32] = x.contiguous().cpu().numpy()
    size = classifier.shape.pixels
    common = {"disable_warnings": True, "display_progressbar": False, "normalise": False, "abs": False}
    flipping = quantus.PixelFlipping(
        features_in_step=3 * size // STEPS, perturb_baseline=0.0, return_auc_per_sample=False, **common
    )
    sensitivity = quantus.MaxSensitivity(nr_samples=DRAWS, lower_bound=RADIUS, return_aggregate=False, **common)
    found: list[dict[str, object]] = []
    for check, metric in (
        (PixelFlippingCheck(pixels_per_step=-(-size // STEPS), share=1.0, fill="mean"), flipping),
        (SensitivityCheck(draws=DRAWS, radius=RADIUS), sensitivity),
    ):
        drain(classifier.device)
        started = time.perf_counter()
        metric(
            model=module,
            x_batch=inputs,
            y_batch=targets,
            explain_func=_gradient,
            device=str(classifier.device),
            softmax=True,
            channel_first=True,
            batch_size=len(photos),
        )
        drain(classifier.device)
        theirs = time.perf_counter() - started
        run = ours.run(classifier, AuditPlan(explainers=(Gradient(),), checks=(check,)), photos)
        found.append(
            {
                "check": check.label,
                "explainer": "gradient",
                "images": len(photos),
                "quantus_seconds_per_image": theirs / len(photos),
                "our_seconds_per_image": run.seconds / len(photos),
                "speedup_over_quantus": theirs / run.seconds,
                "note": _NOTES[check.kind],
            }
        )
    return found


_NOTES = {
    "pixel_flipping": "42 steps, of channel values (Quantus) or of pixels (ours), to the last one; ours also runs a "
    "random control, twice the passes",
    "sensitivity": "10 draws of radius 0.02 in normalized space; Quantus does not divide by the norm of the map",
}


def _gradient(model: nn.Module, inputs: NDArray[np.float32], targets: NDArray[np.int64], **_: object) -> Map:
    """The signed gradient of a batch, by captum: what Quantus is given as its explainer."""
    device = next(model.parameters()).device
    x: Tensor = torch.as_tensor(inputs, dtype=torch.float32, device=device).requires_grad_()
    y = torch.as_tensor(targets, device=device)
    maps: Map = attr.Saliency(model).attribute(x, target=y, abs=False).detach().cpu().numpy()
    return maps
