"""The demo, whole: it ends well, says what it promised, and leaves nothing behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from building.errors import BundleChecksumError
from models.runtime.bundle import Bundle
from proof import demo as demonstration
from proof.demo import Demo, demo
from proof.plants import WEEK_H
from service.client import Client

pytestmark = pytest.mark.engine

SEED = 2
PROC = Path("/proc")


@dataclass
class Watched:
    """A demo that has ended, and what was seen meanwhile."""

    folder: Path
    result: Demo | None = None
    token: str = ""
    alive_meanwhile: int = 0
    setpoints_at_the_end: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, list[int]] = field(default_factory=dict)


MARK = "SETWISE_WALK_TEST_MARK"


def marked_processes(value: str) -> list[str]:
    """Return the command lines of running processes that inherited the mark of this test."""
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment, command = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
            is_dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:  # it ended while we looked, or is not ours to look at
            continue
        if f"{MARK}={value}".encode() in environment and not is_dead:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, shipped_bundle: Bundle) -> Iterator[Watched]:
    if not PROC.is_dir():
        pytest.skip("needs /proc to see which processes are left")
    seen = Watched(tmp_path_factory.mktemp("demo"))

    def open_stage(label: str, total: int):  # type: ignore[no-untyped-def]
        done = seen.stages.setdefault(label, [total])
        return done.append

    def on_result(result: Demo, token: str) -> None:
        seen.token, seen.alive_meanwhile = token, len(marked_processes(str(seen.folder)))
        seen.setpoints_at_the_end = Client(result.address, token).get("setpoints")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, str(seen.folder))
        patch.setattr(tempfile, "tempdir", str(seen.folder))
        seen.result = demo(SEED, bundle=shipped_bundle.folder, open_stage=open_stage, on_result=on_result)
        yield seen


@pytest.mark.timeout(900)  # a hundred seconds on two free cores
def test_the_demo_saves_energy_with_comfort_and_air_no_worse(watched: Watched) -> None:
    result = watched.result
    assert result is not None and result.is_good
    facts = result.facts()
    assert facts["accepted"] == facts["comfort_no_worse"] == facts["air_no_worse"] == 1
    assert facts["saving"] > 0
    assert facts["promise_gap"] == pytest.approx(facts["predicted_saving"] - facts["saving"])
    assert abs(facts["promise_gap"]) < 0.06


def test_the_demo_plays_every_hour_over_the_broker(watched: Watched) -> None:
    assert watched.result is not None
    facts = watched.result.facts()
    assert facts["setpoints"] >= 5 * WEEK_H and watched.result.n_planned >= 5 * WEEK_H
    assert watched.setpoints_at_the_end["origin"] == "optimised", "page and API still show the plan of the week"
    assert facts["messages"] > 840 * 40, "some fifty variables an hour for five weeks, a few of them silent"
    assert facts["broker"] in ("mosquitto", "amqtt") and facts["address"].startswith("http://127.0.0.1:")


def test_the_demo_shows_its_progress_and_its_two_tables(watched: Watched) -> None:
    assert len(watched.stages) == 6
    assert all(done[-1] == done[0] for done in watched.stages.values()), "every bar reaches its end"
    assert watched.result is not None
    (title, _, fitted), (_, columns, week) = watched.result.tables()
    assert "accepted" in title and {row[0] for row in fitted} >= {"facility electricity"}
    assert len(week) == 5 and all(len(row) == len(columns) for row in week)


def test_the_demo_leaves_no_process_and_no_file(watched: Watched) -> None:
    assert watched.alive_meanwhile >= 2, "service and broker were up when the result was told"
    assert len(watched.token) >= 40
    assert marked_processes(str(watched.folder)) == []
    assert list(watched.folder.iterdir()) == []


def test_a_damaged_bundle_is_refused_before_anything_starts(
    shipped_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(shipped_bundle.folder, tmp_path / "bundle"))
    graph = bytearray((bundle / "graph.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (bundle / "graph.onnx").write_bytes(graph)
    started: list[str] = []
    for name in ("draw_plant", "start_broker", "commissioned"):
        monkeypatch.setattr(demonstration, name, lambda *_args, name=name, **_more: started.append(name))
    with pytest.raises(BundleChecksumError, match=r"graph\.onnx"):
        demo(SEED, bundle=bundle)
    assert started == []
