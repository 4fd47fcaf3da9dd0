"""A newcomer's path: each command of the readme and of docs/ is run by a test, or named here with the reason why it is not.

Pages with a story of their own are run where the story is (ELSEWHERE); the rest is run here, in bash, as a reader types it. A
page that gains a command and no test fails here.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import pages
import pytest
import yaml
from served import ROOT, Served, clean_environment

import setwise
from proof.broker import find_mosquitto, free_port

ELSEWHERE = {
    "docs/api.md": "tests/service/test_api_page.py",
    "docs/connect.md": "tests/service/test_connect.py",
    "docs/bridges.md": "tests/deploy/test_bridge.py",
    "docs/operate.md": "tests/service/test_operate_page.py",
    "docs/savings.md": "tests/service/test_savings.py",
}
"""Page -> the test that runs its commands, all of them."""

MINUTES = "takes minutes: the test marked slow runs it"
ENGINE = "no container engine where the tests run; the compose files and the Dockerfile are checked and rehearsed"
ROOT_ONLY = "changes the machine it runs on; what it installs is checked"
NOT_RUN = {
    "README.md": {
        "make demo": "takes minutes: tests/walk/test_demo.py runs what it calls",
        "make test": "is this",
        "docker compose up -d": ENGINE,
    },
    "docs/install.md": {
        "docker compose up -d": ENGINE,
        "docker compose exec gateway cat /state/token.first": ENGINE,
        "docker compose -f compose.yaml -f compose.tls.yaml up -d": ENGINE,
        "docker buildx build --platform linux/amd64,linux/arm64 --tag registry.example/setwise:0.1.0 --push .": ENGINE,
        "sudo chown -R 1883 secrets/broker && sudo chown -R 10001 secrets/setwise": ENGINE,
        "sudo apt-get install python3-venv mosquitto mosquitto-clients curl": ROOT_ONLY,
        "sudo systemctl restart mosquitto": ROOT_ONLY,
        "python3 -m venv ~/setwise": MINUTES,
        "~/setwise/bin/pip install .": MINUTES,
        "export PATH=~/setwise/bin:$PATH": MINUTES,
        "sudo useradd --system --home-dir /var/lib/setwise --shell /usr/sbin/nologin setwise": ROOT_ONLY,
        "sudo python3 -m venv /opt/setwise": ROOT_ONLY,
        "sudo /opt/setwise/bin/pip install .": ROOT_ONLY,
        "sudo install -d -m 0750 -g setwise /etc/setwise": ROOT_ONLY,
        "sudo cp -r buildings bundles /etc/setwise/": ROOT_ONLY,
        "sudo install -m 0640 -g setwise deploy/service.toml /etc/setwise/service.toml": ROOT_ONLY,
        "sudo install -m 0644 deploy/setwise.service /etc/systemd/system/setwise.service": ROOT_ONLY,
        "sudo systemctl daemon-reload": ROOT_ONLY,
        "sudo systemctl enable --now setwise": ROOT_ONLY,
        "sudo cat /var/lib/setwise/state/token.first": ROOT_ONLY,
    },
    "examples/README.md": {
        "setwise calibrate examples/measured.csv --out calibration.json --seed 1": MINUTES,
        "setwise optimise examples/measured.csv --calibration calibration.json --forecast examples/week.csv --out plan.json "
        "--seed 1": MINUTES,
        "setwise replay examples/measured.csv --host localhost --hours-per-second 24": MINUTES,
    },
}  # fmt: skip
HERE = {"README.md", "docs/install.md", "examples/README.md"}
PARSED = {
    "docs/reference/program.md": "written from the program's own help: an example of each verb, on files that no reader has",
    "docs/bring-your-own.md": "on the files that a reader brings, and for hours",
}
"""Page -> why its commands are not run but taken by the program itself: verb, options and values are what it knows."""

needs_tools = pytest.mark.skipif(
    find_mosquitto() is None or any(which(tool) is None for tool in ("curl", "mosquitto_pub", "openssl")),
    reason="mosquitto, mosquitto_pub, openssl and curl are what a reader has at hand",
)


def test_every_page_with_commands_is_run_by_a_test() -> None:
    with_commands = {page for page in pages.pages() if pages.commands(page)}
    assert with_commands == set(ELSEWHERE) | HERE | set(PARSED)
    for page, test in ELSEWHERE.items():
        assert f'pages.commands("{page}")' in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not run {page}"


def test_what_is_not_run_stands_on_its_page() -> None:
    for page, reasons in NOT_RUN.items():
        assert set(reasons) <= set(pages.commands(page)), f"{page} has changed: {set(reasons) - set(pages.commands(page))}"
    assert set(NOT_RUN) <= HERE


@pytest.mark.parametrize("page", PARSED)
def test_command_that_is_not_run_is_taken_by_the_program(page: str) -> None:
    told = [shlex.split(c) for c in pages.commands(page)]
    assert all(words[0] == "setwise" for words in told)
    verbs = {setwise.parser().parse_args(words[1:]).verb for words in told}
    assert verbs == set(setwise.VERBS) or page != "docs/reference/program.md"


def said_inline() -> list[tuple[str, str]]:
    """Every `setwise VERB ...` in the running text of a page, and every one of its commands."""
    found = []
    for page in pages.pages():
        text = re.sub(r"^```.*?^```", "", pages.text_of(page), flags=re.M | re.S)
        found += [(page, words) for words in re.findall(r"`setwise ([a-z][^`]*)`", text)]
        found += [(page, c.partition("setwise ")[2]) for c in pages.commands(page) if re.match(r"(\S*/)?setwise ", c)]
    return sorted(set(found))


@pytest.mark.parametrize(("page", "words"), said_inline())
def test_verb_and_options_that_a_page_tells_are_there(page: str, words: str) -> None:
    top = setwise.parser()
    verbs = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction)).choices
    verb, *rest = shlex.split(words)
    if verb.endswith(":"):  # what the program answers, not what it is told
        verb, rest = verb[:-1], []
    assert verb in verbs, f"{page}: no verb {verb}"
    known = verbs[verb]._option_string_actions
    assert all(word.partition("=")[0] in known for word in rest if word.startswith("--")), f"{page}: setwise {words}"


# ------------------------------------------------------------------------------------------------- the compose files and the unit


def test_compose_files_say_what_compose_knows_and_only_files_that_are_there() -> None:
    known = {
        "image", "build", "restart", "volumes", "ports", "environment", "depends_on", "read_only", "tmpfs", "cap_drop",
        "security_opt", "mem_limit", "healthcheck", "user", "command",
        "stop_grace_period", "secrets", "networks", "init", "profiles", "logging",
    }  # fmt: skip
    base = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    tls = yaml.safe_load((ROOT / "compose.tls.yaml").read_text(encoding="utf-8"))
    for file in (base, tls):
        assert file.keys() <= {"services", "volumes"}
        for service in file["services"].values():
            assert service.keys() <= known
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                is_kept = source in base["volumes"] or source.startswith("./secrets/")
                assert is_kept or (ROOT / source).exists(), source
    assert tls["services"].keys() == base["services"].keys()


def test_install_page_and_unit_name_the_same_places() -> None:
    unit, page = (ROOT / "deploy/setwise.service").read_text(), "\n".join(pages.commands("docs/install.md"))
    started = re.search(r"^ExecStart=(\S+) serve --config (\S+)$", unit, re.M)
    assert started is not None
    assert f"venv {Path(started[1]).parents[1]}" in page and page.count(started[2]) == 1
    state = f"/var/lib/{re.search(r'^StateDirectory=(.+)$', unit, re.M)[1]}"  # type: ignore[index]
    assert f"--home-dir {state}" in page and f"cat {state}/state/token.first" in page
    user = re.search(r"^User=(.+)$", unit, re.M)[1]  # type: ignore[index]
    assert page.count(f"nologin {user}") == 1 and "SETWISE_BUILDINGS=/etc/setwise/buildings" in unit
    from service.config import load_config

    config = load_config(ROOT / "deploy/service.toml", {})
    copied = next(c for c in pages.commands("docs/install.md") if "cp -r buildings" in c)
    assert config.building.bundle.parts[:4] == ("/", "etc", "setwise", "bundles") and copied.endswith(" /etc/setwise/")
    assert load_config(None, {}).building.bundle.name == config.building.bundle.name


# -------------------------------------------------------------------------------------------------------- docs/install.md, README


@dataclass
class Reader:
    """Somebody who follows docs/install.md, Plain Python, in a copy of the repository, up to a running service."""

    folder: Path
    env: dict[str, str]
    instead: dict[str, str]
    said: list[pages.Done]
    service: Served


def runnable(page: str) -> list[str]:
    return [c for c in pages.commands(page) if c not in NOT_RUN[page]]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    for name in ("bundles", "buildings", "deploy", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    port, settings = free_port(), folder / "conf.d"
    settings.mkdir()
    (toml,) = pages.blocks("docs/install.md", "toml")
    assert 'host = "localhost"\n' in toml
    (folder / "service.toml").write_text(toml.replace('host = "localhost"\n', f'host = "localhost"\nport = {port}\n'))
    todo = runnable("docs/install.md")
    serve = next(c for c in todo if " serve " in c)
    before = todo[: todo.index(serve)]
    instead = {"sudo tee": "tee", "/etc/mosquitto/conf.d": str(settings), "mosquitto_pub": f"mosquitto_pub -p {port}"}
    env = clean_environment(SETWISE_API__PORT="0")
    broker_settings = [c for c in before if "conf.d" in c]
    said = pages.run(broker_settings, folder, env, instead)
    # What Debian's own mosquitto.conf does, but for the place and the port.
    (folder / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\ninclude_dir {settings}\n"
    )
    broker = subprocess.Popen([str(find_mosquitto()), "-c", str(folder / "mosquitto.conf")])
    try:
        said += pages.run([c for c in before if c not in broker_settings], folder, env, instead)
        program = [sys.executable, "-m", *shlex.split(serve)]
        with Served(folder, {}, program) as service:
            yield Reader(folder, env, instead | {"http://localhost:8080": service.url}, said, service)
    finally:
        broker.kill()
        broker.wait()


@needs_tools
def test_doctor_finds_a_machine_fit_that_followed_the_page(reader: Reader) -> None:
    doctor = next(done for done in reader.said if "doctor" in done.command)
    faults = [line for line in doctor.said.splitlines() if "✗" in line or " no " in line]
    for what in ("building", "points", "bundle", "store", "broker", "messages in flight"):
        assert not any(f" {what} " in f" {line} " for line in faults), doctor.said
    assert all(done.code == 0 for done in reader.said if done is not doctor), reader.said
    assert (reader.folder / "secrets/bms/client.crt").exists()


@needs_tools
def test_newcomer_sends_a_reading_and_sees_it_arrive(reader: Reader) -> None:
    todo = runnable("docs/install.md")
    after = todo[next(i for i, c in enumerate(todo) if " serve " in c) + 1 :]
    done = pages.run(after, reader.folder, reader.env, reader.instead)
    assert [d.command.split()[0] for d in done] == ["export", "curl", "mosquitto_pub", "sleep", "curl"]
    assert all(d.code == 0 for d in done), done
    assert '"gas_coil_heat"' in done[-1].said and '"value": 12500.0' in done[-1].said, done[-1].said
    assert "12500 (W" in pages.text_of("docs/install.md")


@needs_tools
def test_commands_of_the_readme_are_answered(reader: Reader) -> None:
    token = (reader.folder / "state/token.first").read_text().strip()
    done = pages.run(runnable("README.md"), reader.folder, reader.env, reader.instead | {"<token>": token})
    assert [d.command.split()[0] for d in done] == ["export", "curl", "curl"]
    assert all(d.code == 0 for d in done)
    assert '"heating_setpoint"' in done[1].said and re.search(r'"job":\s*\d+|"id":\s*\d+', done[2].said), done[2].said


# ------------------------------------------------------------------------------------------------------------- what takes minutes


@pytest.mark.slow
def test_plain_python_installs_from_a_clean_copy(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "setwise-copy")], check=True)
    todo = [c for c, reason in NOT_RUN["docs/install.md"].items() if reason == MINUTES]
    env = clean_environment(HOME=str(tmp_path))
    env.pop("PYTHONPATH")
    done = pages.run([*todo, "which setwise", "setwise bundle bundles/medium_office"], tmp_path / "setwise-copy", env)
    if re.search("Connection|Max retries|No matching distribution", done[1].said):
        pytest.skip("no package index can be reached")
    assert [d.code for d in done] == [0] * len(done), done
    assert done[-2].said.strip() == f"{tmp_path}/setwise/bin/setwise"


@pytest.mark.slow
def test_examples_page_calibrates_plans_and_replays(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    port = free_port()
    broker = subprocess.Popen([str(find_mosquitto()), "-p", str(port)])
    try:
        done = pages.run(
            pages.commands("examples/README.md"),
            tmp_path,
            clean_environment(),
            {"--host localhost": f"--host localhost --port {port}"},
        )
    finally:
        broker.kill()
        broker.wait()
    assert [d.code for d in done] == [0, 0, 0], done
    assert "is_accepted=1" in done[0].said and (tmp_path / "plan.json").exists()
