import importlib.util
from pathlib import Path

import pytest

from building.description import load_building
from building.indices.limits import SOURCES

DOCS = Path(__file__).resolve().parent.parent / "docs"


def generator():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = generator()


@pytest.mark.parametrize("page", GENERATE.PAGES)
def test_generated_page_is_not_stale(page):
    written = GENERATE.path_of(page).read_text(encoding="utf-8")
    assert written == GENERATE.PAGES[page](), f"run: python docs/generate.py {page}"


def test_nomenclature_names_every_variable_of_the_office():
    page = GENERATE.nomenclature()
    office = load_building("medium_office")
    assert all(f"| `{name}` |" in page for name in (*office.inputs.names, *office.outputs.names))


def test_limits_page_names_every_limit_with_its_source():
    page = GENERATE.limits()
    assert all(f"| `{name}` | {row.value:g} |" in page and row.source in page for name, row in SOURCES.items())
