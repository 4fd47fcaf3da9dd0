"""The commands of the documentation: every fenced `sh` block of the readme and of docs/, taken out and run one way."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def text_of(page: str) -> str:
    """The text of a page, named from the root of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def pages() -> list[str]:
    """Every page that may hold commands; decisions tell of the past."""
    found = [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
    ]
    return sorted(str(p.relative_to(ROOT)) for p in found if "decisions" not in p.parts)


def blocks(page: str, language: str = "sh") -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Every command of a page in its order: continued lines joined, comments dropped."""
    lines = "".join(blocks(page)).replace("\\\n", " ").splitlines()
    bare = [re.sub(r"(^|\s+)#( .*)?$", "", line).strip() for line in lines]
    return [line for line in bare if line]


@dataclass(frozen=True)
class Done:
    """A command that was run: as the page has it, its exit code, and what it said."""

    command: str
    code: int
    said: str


def run(commands: list[str], folder: Path, env: dict[str, str], instead: dict[str, str] | None = None) -> list[Done]:
    """Run commands one after the other in one bash, as a reader types them.

    Args:
        commands: as the page has them.
        folder: where the reader stands.
        env: the environment to begin with; `export` changes it for those that follow.
        instead: what of a command is another here (a port, a folder), word for word.
    """
    typed = []
    for command in commands:
        for there, here in (instead or {}).items():
            command = command.replace(there, here)
        typed.append(f'{command}\necho "\u241e$?"\n')
    script = folder / "typed.sh"
    script.write_text("exec 2>&1\n" + "".join(typed), encoding="utf-8")
    done = subprocess.run(
        ["bash", str(script)],
        cwd=folder,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    parts = re.findall(r"(.*?)\u241e(\d+)\n", done.stdout, re.DOTALL)
    assert len(parts) == len(commands), f"bash stopped early:\n{done.stdout[-2000:]}"
    return [Done(command, int(code), said) for command, (said, code) in zip(commands, parts, strict=True)]
