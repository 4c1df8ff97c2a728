"""What every metric says of maps whose quality is known: run with `make sense`.

Prints a table in Markdown for each world of `tests/planted_worlds.py`: the mean over images of every question of
`tests/planted_audits.py`, for maps that are perfect, wrong, random and the same for every image, and for the methods.
`docs/sense.md` holds the tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

import planted_audits
from planted_audits import Question

WORLDS = ("color", "texture")
BY_HAND = ("perfect", "wrong", "center", "random")
"""Maps that no method made."""
BLIND = (
    Question("insertion_deletion", "insertion_blur"),
    Question("insertion_deletion", "deletion_blur", higher_is_better=False),
    Question("road", "lerf_accuracy"),
)
"""Metrics that cannot tell good from bad in one of the worlds."""


def table(world: str, questions: Sequence[Question]) -> list[str]:
    """One row for each explainer, from perfect to random, and one column for each question."""
    found = planted_audits.report(world)
    explainers = (*BY_HAND, *(name for name in planted_audits.EXPLAINERS if name not in BY_HAND))
    heads = [f"`{question.metric}` {'↑' if question.higher_is_better else '↓'}" for question in questions]
    lines = [f"| Map | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in explainers:
        means = [planted_audits.score(found, one, name).mean for one in questions]
        lines.append(f"| `{name}` | {' | '.join('-' if mean is None else f'{mean:.3f}' for mean in means)} |")
    return lines


def main() -> None:
    """Print all tables."""
    console = Console(soft_wrap=True, markup=False, highlight=False)
    for world in WORLDS:
        console.print(f"\n**{world}: measures that can tell**\n")
        console.print("\n".join(table(world, planted_audits.QUESTIONS)))
    for world in WORLDS:
        console.print(f"\n**{world}: measures that cannot**\n")
        console.print("\n".join(table(world, BLIND)))


if __name__ == "__main__":
    main()
