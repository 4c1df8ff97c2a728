"""GradientSHAP: expected gradients between random baselines and the image."""

from __future__ import annotations

import torch

from auditcore.contracts.explainers import GradientShap
from auditcore.devices.transfer import numbers_on
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.noise_tunnel import noisy_copies
from auditcore.explainers.passes import host_pairs


def gradient_shap(batch: Batch, contract: GradientShap) -> Attribution:
    """Mean of (x' - b) * gradient at b + alpha (x' - b), over random baselines b and alpha uniform in [0,1).

    x' is the image, with noise if the contract says so. Every sample of every image draws its own baseline, alpha and
    noise. Maps are complete only in expectation, so no completeness error is reported.

    Source: Lundberg & Lee 2017; Erion et al. 2021, Eq. 3; captum's GradientShap.
    """
    classifier = batch.classifier
    sums = torch.zeros_like(batch.pixels, dtype=torch.float64)
    for owners, samples in host_pairs(len(batch), contract.samples, batch.micro_batch):
        copies = noisy_copies(batch, owners, samples, contract, purpose="gradient_shap")
        baselines = classifier.normalize(baseline_pixels(copies, contract.baseline))
        differences = copies.inputs - baselines
        alphas = copies.streams.uniform((1, 1, 1), "gradient_shap/alpha", device=differences.device)
        gradients, _ = classifier.gradient(baselines + alphas * differences, copies.targets)
        images = numbers_on(owners, differences.device, torch.long)
        sums.index_add_(0, images, (differences * gradients).double())
    return Attribution((sums / contract.samples).float())
