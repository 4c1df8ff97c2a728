"""Lists of checks that stay complete: a new check joins them with its default parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import cast

from auditcore.contracts.checks import CHECK_CONTRACTS, Check, CheckContract


def and_every_other_check(
    listed: Iterable[Check], *, without: Collection[type[CheckContract]] = ()
) -> tuple[Check, ...]:
    """Checks with chosen parameters, then every other kind for one model with its defaults.

    Args:
        listed: Those with parameters.
        without: Kinds that have a test of their own.
    """
    chosen = tuple(listed)
    kinds = {type(check) for check in chosen} | set(without)
    others = (
        contract for contract in CHECK_CONTRACTS if contract not in kinds and "several_models" not in contract.needs
    )
    return (*chosen, *(cast("Check", contract.model_validate({})) for contract in others))
