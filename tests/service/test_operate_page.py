"""Every command of docs/operate.md, run in its order on a store that the previous setwise left."""

from __future__ import annotations

import shlex
from pathlib import Path

import pages
import pytest
from sites import two_node_config
from test_schema import ROWS_OF_0001, fill_as_2eeab7e, rows_of

import setwise


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    config = two_node_config(tmp_path)
    Path("service.toml").write_text(f'[building]\nname = "two_node"\npoints = "{config.building.points}"\n[mqtt]\nport = 9\n')
    fill_as_2eeab7e("sqlite:///state/setwise.db")
    before = rows_of("sqlite:///state/setwise.db")
    verbs = []
    for command in pages.commands("docs/operate.md"):
        words = shlex.split(command)
        assert words[0] == "setwise", command
        code = setwise.main(words[1:])
        said = capsys.readouterr()
        verbs.append(words[1])
        # No broker and no bundle here, and points that were never heard: doctor and commission say so, with 1.
        assert code == (1 if words[1] in ("doctor", "commission") else 0), (command, said.err)
        assert "Traceback" not in said.err
    assert verbs == ["doctor", "commission", "backup", "restore", "export", "downgrade"]
    assert rows_of("sqlite:///copies/setwise.backup")["readings"] == before["readings"]
    assert Path("parquet/readings.parquet").stat().st_size > 0
    assert rows_of("sqlite:///state/setwise.db") == before  # the last command was the way back
    assert len(before["readings"]) == ROWS_OF_0001["readings"]


def test_parquet_holds_every_reading_with_its_instant(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pandas as pd

    from service.store import Reading, SqlStore
    from service.store.export import export

    store = SqlStore(f"sqlite:///{tmp_path}/setwise.db")
    stamps = pd.date_range("2026-01-05", periods=3, freq="h", tz="UTC")
    store.add_readings([Reading("a", t, float(i), t, "late") for i, t in enumerate(stamps)])
    assert export(store, tmp_path / "out")["readings"] == 3
    frame = pd.read_parquet(tmp_path / "out" / "readings.parquet")
    assert list(frame["stamp"]) == list(stamps) and frame["value"].tolist() == [0.0, 1.0, 2.0] and set(frame["flag"]) == {"late"}
    store.close()
