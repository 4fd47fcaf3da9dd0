import ast
import pickle
import string
from pathlib import Path

import pytest

import building.errors as errors
from building.errors import OutsideTrainingBoundsError, SetwiseError, UnknownKeyError, did_you_mean

ROOT = Path(errors.__file__).parent.parent
PACKAGES = ("building", "simulation", "models", "calibration", "optim", "proof", "service")


def kinds_under(kind):
    return [kind, *(k for child in kind.__subclasses__() if child.__module__ == "building.errors" for k in kinds_under(child))]


def fields_of(kind):
    return {field for _, field, _, _ in string.Formatter().parse(kind.sentence) if field}


def printed_tree():
    """Yield (depth, name) of each line of the tree in the module's docstring."""
    for line in errors.__doc__.splitlines():
        name = line.lstrip("│├└─ ").split(" ")[0]
        if name.endswith("Error"):
            yield (len(line) - len(line.lstrip("│├└─ "))) // 4, name


def test_printed_tree_equals_the_class_tree():
    parents, found = [], {}
    for depth, name in printed_tree():
        parents = parents[:depth]
        found[name] = parents[-1] if parents else None
        parents.append(name)
    real = {k.__name__: None if k is SetwiseError else k.__base__.__name__ for k in kinds_under(SetwiseError)}
    assert found == real


@pytest.mark.parametrize("kind", kinds_under(SetwiseError), ids=lambda k: k.__name__)
def test_every_error_survives_pickling_with_its_facts_and_sentence(kind):
    facts = dict.fromkeys(fields_of(kind), 1.5)
    back = pickle.loads(pickle.dumps(kind(**facts)))
    assert type(back) is kind
    assert back.facts == facts
    assert str(back) == str(kind(**facts))


def test_facts_are_attributes_and_the_sentence_names_value_and_limits():
    error = OutsideTrainingBoundsError(variable="infiltration", value=7.0, low=0.2, high=3.0, unit="x")
    assert error.value == 7.0
    assert "infiltration = 7 x lies outside 0.2 .. 3 x" in str(error)
    with pytest.raises(AttributeError):
        _ = error.colour


def test_did_you_mean_names_the_nearest_or_lists_what_is_known():
    assert did_you_mean("heating_setpont", ["heating_setpoint", "cooling_setpoint"]) == " Did you mean 'heating_setpoint'?"
    assert did_you_mean("zzz", ["b", "a"]) == " Known: a, b."
    assert did_you_mean("zzz", [f"n{i:02d}" for i in range(20)]).endswith("n11, ....")


def raises_in(path):
    known = {k.__name__: k for k in kinds_under(SetwiseError)}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
            yield node, known[node.func.id]


def test_every_error_in_the_code_is_given_the_facts_of_its_sentence():
    n_seen = 0
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for call, kind in raises_in(path):
                given = {k.arg for k in call.keywords}
                where = f"{path.relative_to(ROOT)}:{call.lineno} {kind.__name__}"
                assert not call.args, f"{where}: facts are keywords"
                assert None in given or fields_of(kind) <= given, f"{where} lacks {fields_of(kind) - given}"
                n_seen += 1
    assert n_seen > 30


def test_unknown_key_is_also_a_bad_description():
    assert issubclass(UnknownKeyError, errors.BadDescriptionError)
