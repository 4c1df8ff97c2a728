"""The request that starts an audit."""

from __future__ import annotations

from collections import Counter
from typing import final

from pydantic import Field, model_validator

from auditcore.contracts.audit_labels import AuditName, Tags
from auditcore.contracts.baseline_reference import BASELINE_MODEL, BaselineReference
from auditcore.contracts.class_names import ClassNames
from auditcore.contracts.contract import Contract, Name
from auditcore.contracts.images import ImagesReference
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import PlanRequest
from auditcore.contracts.policy import Condition
from auditcore.contracts.policy_document import PolicyDigest, PolicyDocument, RequestedPolicy
from auditcore.contracts.stopping import StopRule
from auditcore.errors import InvalidRequest


@final
class NamedModel(Contract):
    """One of several models, under the name the report calls it by.

    Attributes:
        name: Its name in the report.
        model: The model.
    """

    name: Name
    model: ModelReference


@final
class AuditRequest(Contract):
    """A model or several, images, a plan, and optionally the conditions for a pass.

    Attributes:
        images: The images to audit on.
        plan: What to audit: a plan in full, or a preset.
    """

    model: ModelReference | None = Field(default=None, description="The model under audit; give this or `models`.")
    models: tuple[NamedModel, ...] = Field(
        default=(),
        max_length=16,
        description="Two or more models, audited on the same images with the same random orders and compared.",
    )
    images: ImagesReference
    plan: PlanRequest
    class_names: ClassNames = Field(
        default=(),
        exclude_if=lambda names: not names,
        description="Names of the model's classes in its order, which the report shows; those that were sent with the "
        "batch of images if empty, or else the model's own, if it has some.",
    )
    policy: RequestedPolicy = Field(
        default=(),
        description="Conditions for a pass; without any, the verdict is not_evaluated. Or a policy with a name: the "
        "whole document, the name and version of a stored or shipped one, such as `pre-deployment@1.0.0`, or its "
        'digest, `{"digest": "sha256:..."}`.',
    )

    # omitted if null, so that requests without a rule keep the digests they had before rules existed
    stop: StopRule | None = Field(
        default=None,
        exclude_if=lambda rule: rule is None,
        description="When to end before all images are audited: `conclusive`, or the full rule; never if null.",
    )

    # omitted if null, so that requests without a baseline keep the digests they had before baselines existed
    baseline: BaselineReference | None = Field(
        default=None,
        exclude_if=lambda reference: reference is None,
        description="The earlier audit on the same images that conditions on changes compare with. In an audit of one "
        "model, checks that compare models compare it with the model of that audit.",
    )

    # both are omitted if not given, so that requests without them keep the digests they had before
    name: AuditName | None = Field(
        default=None,
        exclude_if=lambda name: name is None,
        description="What to call the audit in lists; need not be unique.",
    )
    tags: Tags = Field(
        default_factory=dict,
        exclude_if=lambda tags: not tags,
        description="Key -> value, to find the audit by, such as the version of the model or the pipeline.",
    )

    @model_validator(mode="after")
    def _a_stop_rule_decides_no_change(self) -> AuditRequest:
        # the conditions of a policy that is only named are not known yet; `with_policy` asks again
        if not isinstance(self.policy, PolicyDigest | str) and self.objection_to_stop is not None:
            raise ValueError(self.objection_to_stop)
        return self

    @model_validator(mode="after")
    def _a_stop_rule_has_something_to_decide(self) -> AuditRequest:
        if self.stop is not None and not self.policy:
            msg = "`stop` needs conditions to decide; add conditions to `policy`, or remove `stop`"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _one_or_several_models(self) -> AuditRequest:
        if (self.model is None) == (not self.models):
            msg = "give exactly one of `model`, for an audit of one model, and `models`, for a comparison of several"
            raise ValueError(msg)
        if len(self.models) == 1:
            msg = "`models` compares at least two models; give a single one as `model`"
            raise ValueError(msg)
        twice = [name for name, count in Counter(entry.name for entry in self.models).items() if count > 1]
        if twice:
            msg = f"two models are called {twice[0]!r}; give each its own name"
            raise ValueError(msg)
        return self

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions for a pass; empty without a policy.

        Raises:
            InvalidRequest: The request only names its policy; `with_policy` looks it up.
        """
        if isinstance(self.policy, tuple):
            return self.policy
        if isinstance(self.policy, PolicyDocument):
            return self.policy.conditions
        msg = "the request names a policy that has not been looked up; call `with_policy` first"
        raise InvalidRequest(msg, field="policy")

    @property
    def objection_to_stop(self) -> str | None:
        """Why its stop rule cannot decide its conditions, and how to fix it; None if it can, or if there is no rule."""
        number = next((number for number, one in enumerate(self.conditions) if one.needs_baseline), None)
        if self.stop is None or number is None:
            return None
        return (
            f"`stop` decides on means, but condition {number} of `policy` is on a change since the baseline; "
            "remove `stop`, or use at_least or at_most"
        )

    @property
    def references(self) -> tuple[tuple[str | None, ModelReference], ...]:
        """Name and reference of every model; the name is None in an audit of one."""
        if self.model is not None:
            return ((None, self.model),)
        return tuple((entry.name, entry.model) for entry in self.models)

    @property
    def loaded_models(self) -> tuple[tuple[str | None, ModelReference], ...]:
        """Name and reference of every model that the audit loads: those of `references`, then that of the baseline."""
        earlier = None if self.baseline is None else self.baseline.model
        return self.references if earlier is None else (*self.references, (BASELINE_MODEL, earlier))
