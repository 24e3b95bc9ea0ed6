"""A baseline compared with what was seen, over values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stocktake.core.assets import Kind
from stocktake.core.baseline import Actual, Baseline, Wanted, actual, compare, role_name
from stocktake.settings.baseline import BaselineFile
from stocktake.settings.reference import baseline_markdown


def wanted(kind: Kind = Kind.EXPERIMENT, name: str = "e", **fields: Any) -> Baseline:
    one = Wanted(kind=kind, name=name, fields=fields, source="b.yaml:3")
    return Baseline(workspace="w", wanted=[one], source="b.yaml")


def there(kind: Kind = Kind.EXPERIMENT, name: str = "e", **fields: Any) -> Actual:
    return Actual(kind=kind, key=f"key of {name}", name=name, fields=fields)


def differs(baseline: Baseline, *actuals: Actual, seen: frozenset[str] = frozenset(Kind)) -> list[Any]:
    return [
        (off.what, off.name, [(one["path"], one["baseline"], one["actual"]) for one in off.differs])
        for off in compare(baseline, actuals, seen)
    ]


@pytest.mark.parametrize(
    ("says", "is_", "off"),
    [
        ({"owner": "ada"}, {"owner": "ada", "tags": {"x": "y"}}, []),
        ({"owner": "ada"}, {"owner": "bo"}, [("owner", "ada", "bo")]),
        ({"owner": "*"}, {"owner": "bo"}, []),
        ({"owner": "*"}, {"owner": None}, [("owner", "*", None)]),
        ({"tags": {"team": "risk"}}, {"tags": {"team": "risk", "more": "1"}}, []),
        ({"tags": {"team": "risk"}}, {"tags": {}}, [("tags.team", "risk", None)]),
        ({"tags": {"team": "*"}}, {"tags": {"team": ""}}, [("tags.team", "*", "")]),
        ({"aliases": {"champion": 3}}, {"aliases": {"champion": "3"}}, []),  # YAML's number is MLflow's text
        ({"aliases": {"champion": 3}}, {"aliases": {"champion": "4"}}, [("aliases.champion", 3, "4")]),
        ({"aliases": {}}, {"aliases": {"champion": "4"}}, [("aliases.champion", None, "4")]),
        ({"traffic": {"blue": 100}}, {"traffic": {"blue": 90, "green": 10}},
         [("traffic.blue", 100, 90), ("traffic.green", None, 10)]),
        ({"allow": False}, {"allow": False}, []),
        ({"allow": False}, {"allow": None}, [("allow", False, None)]),
        ({"allow": False}, {"allow": 0}, []),
    ],
)  # fmt: skip
def test_only_what_a_baseline_names_is_compared(says: Any, is_: Any, off: list[Any]) -> None:
    assert differs(wanted(**says), there(**is_)) == ([("differs", "e", off)] if off else [])


def test_what_is_not_there_is_missing_only_where_all_of_its_kind_was_seen() -> None:
    assert differs(wanted()) == [("missing", "e", [])]
    assert differs(wanted(), seen=frozenset()) == []


def test_what_nobody_named_is_off_where_a_section_names_all() -> None:
    found = differs(wanted(), there(), there(name="other", owner="bo"))
    assert found == []
    exact = Baseline(workspace="w", wanted=wanted().wanted, exact={Kind.EXPERIMENT}, source="b.yaml")
    assert differs(exact, there(), there(name="other", owner="bo")) == [
        ("not in the baseline", "other", [("owner", None, "bo")])
    ]


def test_a_workspace_is_meant_whatever_it_is_called() -> None:
    document = {"properties": {"publicNetworkAccess": "Enabled", "managedNetwork": {"isolationMode": "Disabled"}}}
    one = actual(Kind.WORKSPACE, "workspace", "ml-prod", None, document)
    assert differs(wanted(Kind.WORKSPACE, "", public_network_access="Disabled"), one) == [
        ("differs", "ml-prod", [("public_network_access", "Disabled", "Enabled")])
    ]


def test_a_role_is_known_by_who_as_what_and_where() -> None:
    document = {"properties": {"principalId": "AAA", "roleDefinitionId": "/x/roleDefinitions/BBB", "scope": "/S"}}
    one = actual(Kind.ROLE_ASSIGNMENT, "random", None, None, document)
    assert one.name == role_name("aaa", "bbb", "/s")
    assert differs(wanted(Kind.ROLE_ASSIGNMENT, one.name), one) == []


GOOD: dict[str, Any] = {
    "workspace": "w",
    "exact": ["endpoints"],
    "experiments": [{"name": "e", "owner": "ada", "tags": {"team": "*"}}],
    "models": [{"name": "m", "aliases": {"champion": 3}}],
    "endpoints": [{"name": "s", "traffic": {"blue": 100, "green": 0}}, {"name": "n", "kind": "batch", "default": "a"}],
    "network": {"public_network_access": "Disabled"},
    "roles": [{"principal": "P", "role": "R", "scope": "/S"}],
}


def test_a_file_becomes_what_is_compared() -> None:
    made = BaselineFile.model_validate(GOOD).baseline(lambda *path: ":".join(map(str, path)))
    assert made is not None
    assert made.exact == {Kind.ONLINE_ENDPOINT, Kind.BATCH_ENDPOINT}
    assert {(str(one.kind), one.name, one.source): dict(one.fields) for one in made.wanted} == {
        ("experiment", "e", "experiments:0"): {"owner": "ada", "tags": {"team": "*"}},
        ("registered_model", "m", "models:0"): {"aliases": {"champion": 3}},
        ("online_endpoint", "s", "endpoints:0"): {"traffic": {"blue": 100}},
        ("batch_endpoint", "n", "endpoints:1"): {"default": "a"},
        ("workspace", "", "network"): {"public_network_access": "Disabled"},
        ("role_assignment", "p r /s", "roles:0"): {},
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workspace": None}, "does not say of which workspace"),
        ({"exact": ["models", "roles"], "roles": None}, "calls `roles` exact, but does not have it"),
        ({"experiments": [{"name": "e"}, {"name": "e"}]}, "names 'e' twice"),
        ({"endpoints": [{"name": "n", "kind": "batch", "traffic": {}}]}, "which has no `traffic`"),
        ({"endpoints": [{"name": "n", "kind": "online", "default": "a"}]}, "which has no `default`"),
    ],
)
def test_a_file_that_means_nothing_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        BaselineFile.model_validate(GOOD | changes)


def test_the_reference_page_is_what_the_models_say() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "baseline.md"
    assert page.read_text() == baseline_markdown(), (
        "python -m stocktake.settings --baseline > docs/reference/baseline.md"
    )
