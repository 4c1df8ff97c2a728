"""What ROAR keeps: the result of each training, what maps have cost, and the weights that explain."""

from __future__ import annotations

from auditcore.contracts.retraining.roar import CellScore, MadeMaps, RoarCell
from auditcore.kept_files import KeptFiles
from auditcore.retraining.kept_results import keep_result, read_result
from auditcore.training.kept_training import checkpoint_name, weights_name


def cell_name(cell: RoarCell) -> str:
    """Name of a training among the kept files."""
    if cell.explainer is None:
        return f"whole/{cell.repeat}/{cell.share}"
    return f"cells/{cell.repeat}/{cell.explainer}/{cell.order}-{cell.measure}-{cell.share}"


def read_score(kept: KeptFiles, cell: RoarCell) -> CellScore | None:
    """The result of a training; None if it is not done.

    Raises:
        InvalidRequest: The file is damaged.
    """
    return read_result(kept, _score_file(cell), CellScore)


def keep_score(kept: KeptFiles, score: CellScore) -> None:
    """Keep the result of a training."""
    keep_result(kept, _score_file(score.cell), score)


def forget_checkpoint(kept: KeptFiles, cell: RoarCell) -> None:
    """Remove the checkpoint of a training whose result is kept."""
    kept.forget(checkpoint_name(cell_name(cell)))


def read_maps(kept: KeptFiles, repeat: int, explainer: str) -> MadeMaps | None:
    """What the maps of an explainer in a repeat have cost; None if they were not made.

    Raises:
        InvalidRequest: The file is damaged.
    """
    return read_result(kept, _maps_file(repeat, explainer), MadeMaps)


def keep_maps(kept: KeptFiles, made: MadeMaps) -> None:
    """Keep what maps have cost."""
    keep_result(kept, _maps_file(made.repeat, made.explainer), made)


def read_weights(kept: KeptFiles, cell: RoarCell) -> bytes:
    """The weights of a training on untouched images that an earlier stage has kept."""
    found = kept.read(weights_name(cell_name(cell)))
    assert found is not None  # noqa: S101 - stages of earlier waves are done
    return found


def keep_weights(kept: KeptFiles, cell: RoarCell, weights: bytes) -> None:
    """Keep the weights of a training on untouched images."""
    kept.keep(weights_name(cell_name(cell)), weights)


def _score_file(cell: RoarCell) -> str:
    return f"scores/{cell_name(cell)}.json"


def _maps_file(repeat: int, explainer: str) -> str:
    return f"maps/{repeat}/{explainer}.json"
