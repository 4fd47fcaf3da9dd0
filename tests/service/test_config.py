from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from building.errors import BadDescriptionError, UnknownKeyError
from service.config import Config, load_config, reference

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "config.md"


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "service.toml"
    file.write_text(text)
    return file


def test_defaults_need_no_file() -> None:
    config = load_config(None, {})
    assert config == Config() and config.mqtt.port == 1883


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, '[mqtt]\nhost = "file"\nport = 1884\n')
    config = load_config(file, {"SETWISE_MQTT__HOST": "environment", "SETWISE_API__IS_OPEN": "true", "HOME": "/"})
    assert (config.mqtt.host, config.mqtt.port, config.api.is_open) == ("environment", 1884, True)


def test_key_nobody_reads_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UnknownKeyError, match=r"service.toml: .*'hst' in \[mqtt\]. Did you mean 'host'"):
        load_config(write(tmp_path, "[mqtt]\nhst = 1\n"), {})
    with pytest.raises(UnknownKeyError, match=r"'mqt' in \[the top\]. Did you mean 'mqtt'"):
        load_config(write(tmp_path, "[mqt]\nport = 1\n"), {})
    with pytest.raises(UnknownKeyError, match=r"the environment .*'hots' in \[mqtt\]. Did you mean 'host'"):
        load_config(None, {"SETWISE_MQTT__HOTS": "x"})


def test_other_variables_of_setwise_are_left_alone() -> None:
    assert load_config(None, {"SETWISE_BUILDINGS": "/x", "SETWISE_TEST_DATA": "/y"}) == Config()


@pytest.mark.parametrize("text", ["[mqtt]\nport = 70000", '[mqtt]\nversion = "4"', '[api]\nport = "many"', "mqtt = 3", "[mqtt"])
def test_value_that_does_not_fit_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadDescriptionError, match=r"service.toml"):
        load_config(write(tmp_path, text), {})


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDescriptionError, match="no such file"):
        load_config(tmp_path / "nobody.toml", {})


def test_config_is_frozen_and_hides_secrets() -> None:
    config = load_config(None, {"SETWISE_MQTT__PASSWORD": "sesame", "SETWISE_STORE__URL": "postgresql://u:sesame@h/d"})
    with pytest.raises(ValidationError):
        config.mqtt.port = 1  # type: ignore[misc]
    assert "sesame" not in repr(config) + str(config) + config.model_dump_json()
    assert config.mqtt.password is not None and config.mqtt.password.get_secret_value() == "sesame"


def test_reference_page_is_not_stale_and_names_every_field() -> None:
    assert DOCS.read_text(encoding="utf-8") == reference(), "run: python docs/generate.py"
    for section, field in Config.model_fields.items():
        for key, one in field.annotation.model_fields.items():  # type: ignore[union-attr]
            assert f"SETWISE_{section.upper()}__{key.upper()}" in reference() and one.description
