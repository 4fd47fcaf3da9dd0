"""Print the requirements of pyproject.toml, one per line: the base, and the extras named on the command line.

    python scripts/requirements.py [extra ...]

So that an image can install dependencies in a layer of their own, before the code is copied. Standard library only.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def requirements(project: dict, extras: list[str]) -> list[str]:  # type: ignore[type-arg]
    """Return base requirements and those of `extras`; an extra may name others as ``setwise[...]``. Raises KeyError."""
    wanted = list(project["dependencies"])
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            inner = re.fullmatch(r"setwise\[(.+)\]", line)
            wanted += requirements({**project, "dependencies": []}, inner[1].split(",")) if inner else [line]
    return list(dict.fromkeys(wanted))


if __name__ == "__main__":
    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    print("\n".join(requirements(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"], sys.argv[1:])))
