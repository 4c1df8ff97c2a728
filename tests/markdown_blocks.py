"""The code blocks of a page, and the commands of a console block with the output that the page shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Block(NamedTuple):
    """A fenced code block.

    Attributes:
        language: What stands behind the fence, such as `console`; empty if nothing does.
        text: Its lines.
        place: File and line, for messages.
    """

    language: str
    text: str
    place: str


class Step(NamedTuple):
    """A command of a console block.

    Attributes:
        command: What is typed, without the prompt; here documents included.
        output: What the page shows below; `…` stands for anything.
    """

    command: str
    output: str


def pages() -> list[Path]:
    """Every page that people write, the generated ones left out."""
    written = [
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if path.relative_to(ROOT / "docs").parts[0] not in {"_build", "reference"}
    ]
    return [*sorted(ROOT.glob("*.md")), *written]


def blocks(path: Path) -> list[Block]:
    """Code blocks of a page, in order; directives of Sphinx are no code."""
    found: list[Block] = []
    fence, language, start, lines = "", "", 0, list[str]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        opened = re.match(r"\s*(`{3,})([^`]*)$", line)
        if not fence and opened:
            fence, language, start, lines = opened[1], opened[2].strip(), number, []
        elif fence and line.strip() == fence:
            if not language.startswith("{"):
                found.append(Block(language, "\n".join(lines), f"{path.relative_to(ROOT)}:{start}"))
            fence = ""
        elif fence:
            lines.append(line)
    assert not fence, f"{path}:{start}: the block does not end"
    return found


def steps(block: Block) -> list[Step]:
    """Commands of a console block with their outputs."""
    found: list[Step] = []
    command, output, until = list[str](), list[str](), ""
    for line in block.text.splitlines():
        if until:
            command.append(line)
            until = "" if line == until else until
        elif line.startswith("$ "):
            if command:
                found.append(Step("\n".join(command), "\n".join(output)))
            command, output = [line.removeprefix("$ ")], []
            document = re.search(r"<<'?(\w+)'?", line)
            until = document[1] if document else ""
        else:
            assert command, f"{block.place}: output before the first command"
            output.append(line)
    return [*found, Step("\n".join(command), "\n".join(output))] if command else found


def shows(pattern: str, actual: str) -> bool:
    """Whether a page's output is what came; `…` stands for anything, spaces and line ends are alike."""
    parts = [re.escape(" ".join(part.split())) for part in pattern.split("…")]
    wanted = r"\s*.*\s*".join(part.replace(r"\ ", r"\s+") for part in parts)
    return re.fullmatch(rf"\s*{wanted}\s*", actual, re.DOTALL) is not None
