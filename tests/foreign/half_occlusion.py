"""A map that needs only predictions, for servers of explanations: the loss of the logit without the left half."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime


def half_occlusion(session: onnxruntime.InferenceSession, images: np.ndarray, targets: Sequence[int]) -> np.ndarray:
    """Maps (N,H,W): the loss of each image's logit when its left half is 0, at the pixels of that half; 0 elsewhere."""
    hidden = images.copy()
    half = images.shape[3] // 2
    hidden[..., :half] = 0
    (whole,), (without,) = (session.run(None, {"images": shown}) for shown in (images, hidden))
    rows = np.arange(len(images))
    maps = np.zeros_like(images[:, 0])
    maps[..., :half] = (whole - without)[rows, np.asarray(targets, dtype=int)][:, None, None]
    return maps
