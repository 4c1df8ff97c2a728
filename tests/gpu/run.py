"""Checks and measures auditcore on a GPU: one script for a machine that has torch, but no package registry.

Parts, in order of value:
  parity       every explainer and every check, on the device and on the CPU; the effect of tf32 and bf16
  syncs        no explainer or check lets the host wait for the device in the middle of a micro-batch
  throughput   engine efficiency: ideal seconds of the passes made / seconds taken
  workers      engine efficiency of several processes on one card, together
  protocol     the sweep of Tetkova & Hansen 2023, at the size of the paper
  relevance    maps of layer-wise relevance propagation compared with plain gradients
  foreign      the same work by Quantus, captum and zennit
  won          the deletion check of Won et al. 2025
  memory       the peak, with few and with many images
  incremental  removal curves that pass only what changed

Missing packages are installed from --wheels, offline, into a temporary folder; nothing else on the machine changes.
Every part is told how long it may take. The JSON file is written after every part, and once more if time runs out.
The exit code is 0 only if all parts asked for ran, no number differs and no synchronization was found.

Rehearse on a CPU first:  python3 tests/gpu/run.py --device cpu --tiny --wheels .whl parity syncs
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESERVE_S = 5.0
"""Kept from the minutes asked for: the last part may take a little longer than it was told."""

WRONG, OUT_OF_TIME = 1, 3


def main() -> None:
    """Run what the command line asks for."""
    started = time.monotonic()
    # this script's folder is first on the path, where its modules would hide others of the same name
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    sys.path.insert(0, str(ROOT / "tests"))
    from gpu import wheels  # noqa: PLC0415 - found only now

    arguments = arguments_of()
    say = _speaker(started)
    wheels.prepend([ROOT / "src", ROOT / "service", ROOT / "tests"])
    installed = wheels.install(arguments.wheels)
    if installed is not None:
        say(f"wheels installed into {installed}")
    code = WRONG
    try:
        code = _measure(arguments, started, say)
    finally:
        if installed is not None:
            shutil.rmtree(installed, ignore_errors=True)
    sys.stdout.flush()
    sys.exit(code)


def arguments_of(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python3 tests/gpu/run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="parts to run (default: all, in the order above)")
    parser.add_argument(
        "--wheels",
        type=Path,
        default=ROOT / ".whl",
        metavar="DIR",
        help="folder of the wheels that tests/gpu/wheels.txt lists (default .whl); unused if nothing is missing",
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="default cuda")
    parser.add_argument("--out", type=Path, default=Path("bench-gpu.json"), metavar="FILE", help="default %(default)s")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything, imports included (default 8)")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: a tiny model and few images")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="subjects of parity and syncs with one of the words, such as sweep; of throughput, workers, protocol and "
        "relevance models and precisions, such as resnet50 or bf16",
    )
    parser.add_argument("--profile", action="store_true", help="throughput also says where the time goes")
    return parser.parse_args(given)


def _measure(arguments: argparse.Namespace, started: float, say: Callable[[str], None]) -> int:
    """Everything after the installation; the exit code."""
    import torch  # noqa: PLC0415 - importable only once the path is set

    from gpu import parts  # noqa: PLC0415
    from gpu.record import Record  # noqa: PLC0415

    unknown = [name for name in arguments.parts if name not in parts.WEIGHTS]
    if unknown:
        say(f"no part is called {', '.join(unknown)}; there are {', '.join(parts.WEIGHTS)}")
        return 2
    if arguments.device == "cuda" and not torch.cuda.is_available():
        say("torch sees no CUDA device here. Rehearse on the CPU: --device cpu --tiny")
        return 2
    names = [name for name in parts.WEIGHTS if name in arguments.parts or not arguments.parts]
    until = started + 60 * arguments.minutes
    record = Record(arguments.out)
    record.put(
        "run", {"parts": names, "device": arguments.device, "minutes": arguments.minutes, "tiny": arguments.tiny}
    )
    _end_in_time(until, lambda: record.put("ended", "out of time"), say)
    from auditcore.devices.allocator import keep_freed_memory  # noqa: PLC0415
    from gpu import card  # noqa: PLC0415

    device = torch.device(arguments.device)
    keep_freed_memory()  # as a worker does
    for name, value in card.describe(device).items():
        record.put(name, value)
    wrong = parts.run_parts(
        names,
        device,
        record,
        until=until - RESERVE_S,
        tiny=arguments.tiny,
        say=say,
        only=arguments.only,
        profile=arguments.profile,
    )
    record.put("wrong", wrong)
    record.put("ended", f"after {time.monotonic() - started:.1f} s")
    for line in wrong:
        say(f"WRONG {line}")
    say(f"written to {arguments.out}; {len(wrong)} wrong")
    return WRONG if wrong else 0


def _end_in_time(until: float, last_words: Callable[[], None], say: Callable[[str], None]) -> None:
    """End the process at a time, whatever it is doing then, after some last words."""

    def watch() -> None:
        time.sleep(max(0.0, until - time.monotonic()))
        say("out of time: ending in the middle of a part; the JSON file holds what was finished")
        # in a thread of its own, since a lock that is held must not keep the process from ending
        writer = threading.Thread(target=last_words, daemon=True)
        writer.start()
        writer.join(2.0)
        sys.stdout.flush()
        os._exit(OUT_OF_TIME)

    threading.Thread(target=watch, name="watchdog", daemon=True).start()


def _speaker(started: float) -> Callable[[str], None]:
    """Prints lines with the seconds since the start, at once."""

    def say(line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - started:6.1f} s] {line}\n")
        sys.stdout.flush()

    return say


if __name__ == "__main__":
    main()
