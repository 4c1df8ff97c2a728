"""Cost of a map of layer-wise relevance compared with a plain gradient and with zennit, in one run.

`PYTHONPATH=tests python -m benchmarks.relevance` measures on the demo model and on torchvision's resnet50, as
`make bench` does. Gradient, our rules and zennit take turns, so that a machine that slows down slows all three; the
least of the rounds counts. The gradient is that of the engine's fastest form of the model, with batch normalization
folded in.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from auditcore.contracts.explainers import LrpEpsilonAlpha2Beta1Flat, LrpEpsilonGammaBox, LrpEpsilonPlusFlat
from auditcore.explainers.differentiation import input_gradient
from auditcore.explainers.lrp import LrpContract, model_with_rules, rules_of_zennit
from auditcore.models.classifier import Classifier
from benchmarks.subjects import load
from benchmarks.timing import seconds_of

COMPOSITES: tuple[LrpContract, ...] = (LrpEpsilonPlusFlat(), LrpEpsilonGammaBox(), LrpEpsilonAlpha2Beta1Flat())
LIMITS = {"demo": 4.5, "resnet50": 3.0}
"""Times the gradient that a map may cost."""


def measure(classifier: Classifier, batch: int, rounds: int) -> Iterator[dict[str, float | int | str]]:
    """Cost and deviation of each composite on one batch of noise.

    Args:
        classifier: A model that can be traced.
        batch: Images that pass together.
        rounds: Turns of gradient, ours and zennit; the first call of each comes before and does not count.

    Yields:
        For each composite, as soon as it is measured: seconds of a gradient (forward and back), of our map and of
        zennit's; ours and zennit's over the gradient; forward passes that our map costs as much as; and the largest
        deviation over the images, relative to the largest value of zennit's map.
    """
    pixels = torch.rand(batch, *classifier.shape, generator=torch.Generator().manual_seed(0))
    inputs = classifier.normalize(pixels.to(classifier.device))
    targets = classifier.module(inputs).argmax(1)
    for contract in COMPOSITES:
        model = model_with_rules(classifier, contract)

        def forward() -> Tensor:
            with torch.inference_mode():
                return classifier.folded(inputs)

        def gradient() -> Tensor:
            return input_gradient(classifier.folded, inputs, targets)[0]

        def ours(model: torch.nn.Module = model) -> Tensor:
            return input_gradient(model, inputs, targets)[0]

        def zennit(contract: LrpContract = contract) -> Tensor:
            with rules_of_zennit(classifier, contract) as hooked:
                return input_gradient(hooked, inputs, targets)[0]

        expected, actual = zennit(), ours()
        deviation = (actual - expected).abs().amax((1, 2, 3)) / expected.abs().amax((1, 2, 3))
        forward(), gradient()
        seconds = {"forward": 1e9, "gradient": 1e9, "ours": 1e9, "zennit": 1e9}
        for _ in range(rounds):
            for name, work in (("forward", forward), ("gradient", gradient), ("ours", ours), ("zennit", zennit)):
                seconds[name] = min(seconds[name], seconds_of(work, classifier.device))
        yield {
            "composite": contract.kind,
            "batch": batch,
            "seconds_gradient": seconds["gradient"],
            "seconds_ours": seconds["ours"],
            "seconds_zennit": seconds["zennit"],
            "ours_over_gradient": seconds["ours"] / seconds["gradient"],
            "zennit_over_gradient": seconds["zennit"] / seconds["gradient"],
            "ours_over_forward": seconds["ours"] / seconds["forward"],
            "max_deviation": float(deviation.max()),
        }


def main() -> None:
    """Measure, print a table, write JSON if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4, help="images that pass together (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="turns, of which the fastest counts (default 5)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--out", type=Path, help="where to write the rows as JSON")
    arguments = parser.parse_args()

    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {arguments.device}, torch {torch.__version__}"
    table = Table(title=f"Cost of a map in plain gradients, {machine}")
    for column in (
        "model",
        "composite",
        "gradient s",
        "ours s",
        "zennit s",
        "ours x",
        "limit x",
        "zennit x",
        "deviation",
    ):
        table.add_column(column, justify="left" if column in {"model", "composite"} else "right")
    rows: list[dict[str, float | int | str]] = []
    for name in arguments.models:
        for row in measure(load(name, arguments.device), arguments.batch, arguments.rounds):
            rows.append({"model": name, **row})
            table.add_row(
                name,
                str(row["composite"]),
                *(f"{row[key]:.3f}" for key in ("seconds_gradient", "seconds_ours", "seconds_zennit")),
                f"{row['ours_over_gradient']:.2f}",
                f"{LIMITS[name]}",
                f"{row['zennit_over_gradient']:.2f}",
                f"{row['max_deviation']:.1e}",
            )
    Console(width=120).print(table)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
