"""The tables a person reads; `PYTHONPATH=tests python -m benchmarks.table bench.json` prints those of the README."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

MIB = 1024**2


def show(bench: Mapping[str, Any], console: Console) -> None:
    """All sections of a benchmark."""
    machine, versions = bench["machine"], bench["versions"]
    console.print(_rows(bench["rows"]), _raw(bench["raw"]))
    if bench["foreign"]:
        console.print(_foreign(bench["foreign"]))
    if bench["memory_growth"]:
        console.print(_growth(bench["memory_growth"]))
    for row in bench["relevance"]:
        console.print(
            f"{row['model']}: a map of {row['composite']} costs {row['ours_over_gradient']:.1f} plain gradients, "
            f"zennit's {row['zennit_over_gradient']:.1f}"
        )
    show_projection(bench["tetkova2023"], console)
    console.print(
        f"{machine['processor']}, {machine['threads']} threads, device {machine['device']}; "
        f"torch {versions['torch']}, {bench['date']}; load {machine['load_average_at_start']} at the start"
    )


def show_projection(protocol: Mapping[str, Any] | None, console: Console) -> None:
    """One line, which begins with the word."""
    if protocol is not None:
        console.print(
            f"PROJECTION of Tetkova & Hansen 2023 on resnet50, {protocol['images']} images: "
            f"{protocol['seconds'] / 60:.1f} minutes in {protocol['precision']} ({protocol['basis']})"
        )


COLUMNS = (
    "model",
    "check",
    "explainer",
    "images",
    "efficiency",
    "of folded",
    "speed-up",
    "passes made / needed",
    "peak MiB",
    "s/image",
)


def markdown(bench: Mapping[str, Any]) -> str:
    """Rows, Quantus and LRP as Markdown, with the machine and the date."""
    machine, versions = bench["machine"], bench["versions"]
    foreign = [
        [
            row["model"],
            row["check"],
            f"{row['quantus_seconds_per_image']:.2f}",
            f"{row['our_seconds_per_image']:.2f}",
            f"{row['speedup_over_quantus']:.1f}",
        ]
        for row in bench["foreign"]
    ]
    relevance = [
        [
            row["model"],
            row["composite"],
            f"{row['ours_over_gradient']:.1f}",
            f"{row['zennit_over_gradient']:.1f}",
            f"{row['max_deviation']:.1e}",
        ]
        for row in bench["relevance"]
    ]
    where = f"{machine['processor']}, {machine['threads']} threads, torch {versions['torch']}"
    parts = [
        f"{where}, {bench['date'][:10]}, {bench['seconds'] / 60:.0f} minutes",
        _pipes(COLUMNS, [line_of(row) for row in bench["rows"]]),
        _pipes(("model", "check", "Quantus s/image", "ours s/image", "speed-up"), foreign),
        _pipes(("model", "composite", "ours / gradient", "zennit / gradient", "largest deviation"), relevance),
    ]
    return "\n\n".join(parts)


def _pipes(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *lines))


def line_of(row: Mapping[str, Any]) -> list[str]:
    """One row of the main table, as text."""
    made, needed = row["passes_made"], row["passes_needed"]
    return [
        row["model"],
        row["check"].replace("+", " + "),
        row["explainer"].replace("+", " + "),
        str(row["images"]),
        f"{row['engine_efficiency']:.2f}" + ("" if row["ideal"] == "plain" else f" ({row['ideal']})"),
        f"{row['efficiency_of_folded_model']:.2f}",
        f"{row['speedup_over_naive']:.1f}" + (" *" if "scaled" in row["naive_steps"] else ""),
        f"{made} / {needed}" + ("" if made == needed else f" = {made / needed:.2f}"),
        f"{row['peak_memory_bytes'] / MIB:.0f}",
        f"{row['seconds_per_image']:.2f}",
    ]


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        title="The engine",
        caption="efficiency: ideal seconds of the passes made / wall seconds (another ideal than the plain passes in "
        "brackets), for the model as loaded and for its folded copy; *: the papers' way measured on a part of its "
        "steps and scaled",
    )
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number > COLUMNS.index("explainer") else "left")
    for row in rows:
        table.add_row(*line_of(row))
    return table


def _raw(raw: Mapping[str, Any]) -> Table:
    table = Table(title="The bare model, images per second")
    for column in ("model", "precision", "pass", "memory format", "batch"):
        table.add_column(column)
    table.add_column("images/s", justify="right")
    for model, record in raw.items():
        best: dict[tuple[str, str], Mapping[str, Any]] = {}
        for found in record["scan"]:
            key = (found["precision"], found["kind"])
            if key not in best or found["images_per_second"] > best[key]["images_per_second"]:
                best[key] = found
        for (precision, kind), found in best.items():
            speed = f"{found['images_per_second']:.1f}"
            table.add_row(model, precision, kind, found["memory_format"], str(found["batch"]), speed)
    return table


def _foreign(found: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Quantus 0.6 on the same images")
    for column in ("model", "check"):
        table.add_column(column)
    for column in ("Quantus s/image", "ours s/image", "speed-up"):
        table.add_column(column, justify="right")
    for row in found:
        table.add_row(
            row["model"],
            row["check"],
            f"{row['quantus_seconds_per_image']:.2f}",
            f"{row['our_seconds_per_image']:.2f}",
            f"{row['speedup_over_quantus']:.1f}",
        )
    return table


def _growth(found: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Peak memory by images, edda with gradient, each in its own process")
    table.add_column("model")
    for column in ("images", "peak MiB", "of the first"):
        table.add_column(column, justify="right")
    for row in found:
        table.add_row(
            row["model"], str(row["images"]), f"{row['peak_memory_bytes'] / MIB:.0f}", f"{row['of_the_first']:.2f}"
        )
    return table


if __name__ == "__main__":
    sys.stdout.write(markdown(json.loads(Path(sys.argv[1]).read_text())) + "\n")
