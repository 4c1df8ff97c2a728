"""Baselines: the images with which a method compares an image."""

from __future__ import annotations

from typing import Literal

Color = Literal["black", "mean", "blur"]
Baseline = Literal["black", "mean", "blur", "gaussian", "uniform", "normal", "maximum_distance"]
BASELINES = (
    "In pixel space, then normalized. black; mean: the model's mean color; blur: the image under a Gaussian of 31 "
    "pixels, sigma 5; gaussian: the image plus noise of standard deviation 0.5, clipped; uniform: noise over the whole "
    "range; normal: standard normal noise in normalized space, not clipped; maximum_distance: black or white, "
    "whichever is farther from each value. Noise has the image's own stream."
)
NOISE_BASELINES = frozenset({"gaussian", "uniform", "normal"})
"""Baselines that are drawn at random."""
