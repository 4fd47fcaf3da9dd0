"""`python -m benchmarks <name> ...`: runs benchmarks/<name>.py."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread, before numpy starts its own

NAMES = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))

if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
    sys.exit(f"usage: python -m benchmarks NAME [options]; NAME is one of {', '.join(NAMES)}")
importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
