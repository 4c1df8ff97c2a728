"""Read hostile bytes for as long as time allows, guided by the coverage of the code that reads them.

`python -m fuzz image --seconds 60`; without a name, one intake after the other. Needs `atheris`, which
`make fuzz-intakes` installs. Files that are neither read nor refused are kept in `fuzz-findings/`.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from pathlib import Path

FINDINGS = Path("fuzz-findings")
MEMORY_MB = 2048
"""Most memory of a process; what reads a file of a few kilobytes needs a tenth of it beside the libraries."""

SLOWEST_S = 10
"""Longest time for one file."""


def main() -> int:
    """Run one intake in this process, or each in a process of its own, because the fuzzer ends its process."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("intake", nargs="?", help="which place; all of them if left out")
    parser.add_argument("--seconds", type=int, default=60, help="for each place (default: 60)")
    given = parser.parse_args()
    if given.intake is not None:
        _guided(given.intake, given.seconds)
    from fuzz.intakes import INTAKES  # noqa: PLC0415 - imported by the fuzzer itself, which measures its coverage

    failed = []
    for name in INTAKES:
        command = [sys.executable, "-m", "fuzz", name, "--seconds", str(given.seconds)]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    sys.stdout.write(f"failed: {', '.join(failed)}; see {FINDINGS}\n" if failed else "every file was read or refused\n")
    return bool(failed)


def _guided(name: str, seconds: int) -> None:
    import atheris  # noqa: PLC0415 - only for this

    with atheris.instrument_imports(include=["auditcore", "auditcore_service", "pydicom", "tifffile", "zipfile"]):
        from fuzz.intakes import INTAKES  # noqa: PLC0415 - as above
    from fuzz.mutations import mutated  # noqa: PLC0415 - as above

    intake, folder = INTAKES[name], FINDINGS / name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)  # noqa: S311 - files, not secrets
    files = [*intake.seeds(), *(mutated(intake.seeds(), draw) for _ in range(200))]
    for number, data in enumerate(files):
        (corpus / f"seed-{number}").write_bytes(data)

    options = (
        f"-max_total_time={seconds}",
        f"-artifact_prefix={folder}/",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={SLOWEST_S}",
        "-print_final_stats=1",
        "-verbosity=0",
    )
    atheris.Setup([sys.argv[0], *options, str(corpus)], intake.accepts)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
