"""Training on the images as they are."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from auditcore.contracts.training.methods.method import TrainingMethodContract


@final
class Plain(TrainingMethodContract):
    """Train on the images and labels as they are: the baseline with which all methods are compared."""

    paper: ClassVar[str] = "Li et al. 2021 (No Aug); Won et al. 2025 (Baseline)"
    kind: Literal["plain"] = "plain"
