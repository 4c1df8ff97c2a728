"""The kept price of a measurement, which also says whose files these are."""

from __future__ import annotations

from typing import Final

from auditcore.contracts.contract import Sha256
from auditcore.contracts.retraining.kept import MeasurePrice
from auditcore.errors import InvalidRequest
from auditcore.kept_files import KeptFiles
from auditcore.retraining.kept_results import keep_result, read_result

PRICE_FILE: Final = "price.json"


def kept_price(kept: KeptFiles, measurement: Sha256) -> MeasurePrice | None:
    """The price of a measurement; None where it begins.

    Args:
        kept: Its files.
        measurement: Digest of everything that decides the values.

    Raises:
        InvalidRequest: The files are those of another measurement, or the price is damaged.
    """
    found = read_result(kept, PRICE_FILE, MeasurePrice)
    if found is not None and found.measurement != measurement:
        msg = (
            "the files that are kept belong to another measurement; plan, model and images have to be the same. Name "
            "an empty folder, or the one of this measurement to go on with it"
        )
        raise InvalidRequest(msg, field="out")
    return found


def read_price(kept: KeptFiles, measurement: Sha256) -> MeasurePrice:
    """The price that an earlier stage has kept; arguments and errors as of `kept_price`."""
    found = kept_price(kept, measurement)
    assert found is not None  # noqa: S101 - the first stage is done
    return found


def keep_price(kept: KeptFiles, price: MeasurePrice) -> None:
    """Keep the price of a measurement."""
    keep_result(kept, PRICE_FILE, price)
