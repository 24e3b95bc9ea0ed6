"""Which model versions were production in a period: what is sure, what is possible, and what nobody looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.core.assets import Kind
from stocktake.core.production import Certainty, Meaning, Span, State, Turn, spells

DAY = datetime(2026, 5, 1, tzinfo=UTC)
NEXT = DAY + timedelta(days=1)


def at(hour: float) -> datetime:
    return DAY + timedelta(hours=hour)


def history(
    key: str,
    looks: Sequence[tuple[float, Mapping[str, Any] | None]],
    kind: Kind = Kind.MODEL_VERSION,
    *,
    last_seen: float | None = None,
) -> list[State]:
    """The states that looks find, each asked for at an hour and answered a minute later; None: it is not there."""
    states: list[dict[str, Any]] = []
    before: float | None = None
    current: Mapping[str, Any] | None = None
    for hour, document in looks:
        if document != current:
            turn = Turn(not_before=None if before is None else at(before), not_after=at(hour) + timedelta(minutes=1))
            if current is not None:
                states[-1] |= {"valid_to": at(hour), "ended": turn}
            if document is not None:
                states.append({"valid_from": at(hour), "document": document, "began": turn})
        before, current = hour, document
    assert before is not None
    seen = at(last_seen if last_seen is not None else before)
    return [
        State(
            **({"valid_to": None, "ended": None} | one),
            workspace="w", kind=kind, key=key, parent=None, run=None, lifecycle="active", digest="", scan=1,
            artifact_uri=None, created_at=None, last_seen=seen,
            home="/subscriptions/s/resourcegroups/g/workspaces/w",
        ) for one in states
    ]  # fmt: skip


CHAMPION = {"aliases": ["champion"]}
PLAIN: dict[str, Any] = {"aliases": []}


def answer(states: Sequence[State], start: datetime = DAY, end: datetime = NEXT, **means: Any) -> dict[str, Any]:
    """The surest of what is told of each version."""
    surest = list(Certainty)
    found: dict[str, Certainty] = {}
    for one in spells(states, Meaning(**means)):
        if (told := one.span.certainty(start, end)) is not None:
            found[one.key] = min(told, found.get(one.key, told), key=surest.index)
    return found


def test_a_version_is_told_with_the_looks_between_which_it_became_and_ceased_to_be_production() -> None:
    (spell,) = spells(history("m/1", [(8, PLAIN), (9, CHAMPION), (10, CHAMPION), (11, PLAIN)]), Meaning())
    assert (spell.span.after, spell.span.ended) == (at(8), at(11) + timedelta(minutes=1))
    assert spell.span.begun == at(9) + timedelta(minutes=1)
    assert spell.span.until == at(10)
    assert spell.because == ["alias champion"]


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(-3, CHAMPION), (1, CHAMPION), (30, PLAIN)], Certainty.OBSERVED),
        ([(-3, CHAMPION), (25, CHAMPION)], Certainty.BETWEEN),  # seen before and after, and nobody looked that day
        ([(-3, CHAMPION), (30, PLAIN)], Certainty.POSSIBLE),
        ([(-3, PLAIN), (1, CHAMPION), (30, PLAIN)], Certainty.OBSERVED),
        ([(-3, CHAMPION), (1, PLAIN)], Certainty.POSSIBLE),  # it may have ceased before midnight
        ([(23, PLAIN), (25, CHAMPION)], Certainty.POSSIBLE),  # it may have become it after midnight
        ([(-5, CHAMPION), (-1, CHAMPION)], Certainty.CARRIED),
        ([(-5, CHAMPION), (-1, PLAIN), (3, PLAIN)], None),
        ([(25, CHAMPION)], None),  # nobody had looked at that time
        ([(-3, PLAIN), (12, None)], None),
    ],
)
def test_how_certain_it_is_follows_from_the_looks_around_the_day(
    looks: list[tuple[float, Mapping[str, Any] | None]], expected: Certainty | None
) -> None:
    assert answer(history("m/1", looks)).get("m/1") == expected


def test_an_alias_that_moved_twice_in_a_day_makes_three_spells_of_two_versions() -> None:
    one = history("m/1", [(7, CHAMPION), (8, CHAMPION), (10, PLAIN), (12, CHAMPION), (13, CHAMPION)])
    two = history("m/2", [(7, PLAIN), (8, PLAIN), (10, CHAMPION), (12, PLAIN), (13, PLAIN)])
    found = [(spell.key, spell.span.after, spell.span.ended) for spell in spells(one + two, Meaning())]
    minute = timedelta(minutes=1)
    assert found == [
        ("m/1", None, at(10) + minute),
        ("m/1", at(10), None),
        ("m/2", at(8), at(12) + minute),
    ]


def test_aliases_stages_and_tags_that_follow_each_other_are_one_stay() -> None:
    looks: list[tuple[float, Mapping[str, Any] | None]] = [
        (1, CHAMPION),
        (2, CHAMPION | {"stage": "Production"}),
        (3, {"stage": "Production"}),
        (4, PLAIN),
    ]
    (spell,) = spells(history("m/1", looks), Meaning())
    assert spell.because == ["alias champion", "stage Production"]
    assert (spell.span.begun, spell.span.until) == (at(1) + timedelta(minutes=1), at(3))
    tagged = history("m/2", [(1, {"properties": {"tags": {"stage": "prod"}}})])
    assert answer(tagged) == {}
    assert answer(tagged, tags=(("stage", "prod"),)) == {"m/2": Certainty.OBSERVED}


def test_what_the_source_marks_deleted_is_not_production() -> None:
    gone = [
        State(**{name: getattr(one, name) for name in State.__slots__} | {"lifecycle": "deleted"})
        for one in history("m/1", [(1, CHAMPION)])
    ]
    assert answer(gone) == {}


def online(**traffic: int) -> dict[str, Any]:
    return {"properties": {"traffic": traffic}}


WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/X/workspaces/w"


def serving(model: Any) -> dict[str, Any]:
    return {"properties": {"model": model}}


def test_a_deployment_with_traffic_makes_its_model_production_while_both_are_so() -> None:
    endpoint = history("shop", [(1, online(blue=100)), (5, online(blue=100, green=0)), (9, online(green=100))],
                       Kind.ONLINE_ENDPOINT)  # fmt: skip
    arm = f"{WORKSPACE}/models/fraud/versions/"
    blue = history("shop/blue", [(1, serving(arm + "1")), (3, serving(arm + "2"))], Kind.ONLINE_DEPLOYMENT, last_seen=9)
    green = history("shop/green", [(5, serving("azureml:fraud:3"))], Kind.ONLINE_DEPLOYMENT, last_seen=9)
    found = {one.key: one for one in spells([*endpoint, *blue, *green], Meaning())}
    assert found.keys() == {"fraud/1", "fraud/2", "fraud/3"}
    assert found["fraud/2"].because == ["traffic of shop/blue"]
    assert (found["fraud/2"].span.after, found["fraud/2"].span.until) == (at(1), at(5))
    assert (found["fraud/3"].span.after, found["fraud/3"].span.ended) == (at(5), None)
    assert answer([*endpoint, *blue, *green], traffic=False) == {}


def test_a_model_of_another_workspace_is_none_of_ours_and_true_is_no_share() -> None:
    endpoint = history("e", [(1, online(other=100, path=1, blue=True))], Kind.ONLINE_ENDPOINT)
    named = f"{WORKSPACE}x/models/m/versions/1"
    other = history("e/other", [(1, serving(named))], Kind.ONLINE_DEPLOYMENT)
    path = history("e/path", [(1, serving("azureml://datastores/d/paths/models/m"))], Kind.ONLINE_DEPLOYMENT)
    blue = history("e/blue", [(1, serving("azureml:m:1"))], Kind.ONLINE_DEPLOYMENT)
    assert [one.key for one in spells([*endpoint, *other, *path, *blue], Meaning())] == [named]


def test_a_share_of_nothing_and_a_model_that_is_only_a_path_serve_no_version() -> None:
    endpoint = history("e", [(1, online(blue=0, path=100))], Kind.ONLINE_ENDPOINT)
    blue = history("e/blue", [(1, serving("azureml:m:1"))], Kind.ONLINE_DEPLOYMENT)
    path = history("e/path", [(1, serving(None))], Kind.ONLINE_DEPLOYMENT)
    assert spells([*endpoint, *blue, *path], Meaning()) == []


def test_the_default_of_a_batch_endpoint_serves_and_the_others_do_not() -> None:
    endpoint = history("e", [(1, {"properties": {"defaults": {"deploymentName": "a"}}})], Kind.BATCH_ENDPOINT)
    both = [
        one
        for name, model in (("a", "m:1"), ("b", "m:2"))
        for one in history(
            f"e/{name}", [(1, serving({"referenceType": "Id", "assetId": f"azureml:{model}"}))], Kind.BATCH_DEPLOYMENT
        )
    ]
    assert answer([*endpoint, *both]) == {"m/1": Certainty.OBSERVED}
    assert answer([*endpoint, *both], batch_default=False) == {}


def test_two_changes_in_the_same_gap_may_have_missed_each_other() -> None:
    endpoint = history("e", [(1, online(a=1)), (10, online())], Kind.ONLINE_ENDPOINT)
    moved = history("e/a", [(1, serving("azureml:m:1")), (10, serving("azureml:m:2"))], Kind.ONLINE_DEPLOYMENT)
    assert answer([*endpoint, *moved]) == {"m/1": Certainty.OBSERVED, "m/2": Certainty.POSSIBLE}


_DOCUMENTS = st.sampled_from([CHAMPION, PLAIN, {"stage": "Production"}, None])
_LOOKS = st.lists(
    st.tuples(st.floats(-30, 54).map(lambda hour: round(hour, 1)), _DOCUMENTS),
    min_size=1, max_size=8, unique_by=lambda look: look[0],
).map(lambda looks: sorted(looks, key=lambda look: look[0]))  # fmt: skip


@given(st.lists(_LOOKS, min_size=1, max_size=3))
def test_the_answer_of_a_day_is_the_union_of_the_answers_of_its_instants(
    all_looks: list[list[tuple[float, Mapping[str, Any] | None]]],
) -> None:
    states = [state for number, looks in enumerate(all_looks) for state in history(f"m/{number}", looks)]
    instant = timedelta(microseconds=1)
    edges = {edge for one in spells(states, Meaning()) for edge in
             (one.span.after, one.span.begun, one.span.until, one.span.ended) if edge is not None}  # fmt: skip
    moments = {moment for edge in edges for moment in (edge - instant, edge, edge + instant)} | {DAY, NEXT - instant}
    union: dict[str, set[Certainty]] = {}
    for moment in moments:
        if DAY <= moment < NEXT:
            for key, told in answer(states, moment, moment + instant).items():
                union.setdefault(key, set()).add(told)
    day = answer(states)
    assert day.keys() == union.keys()
    sure = {Certainty.OBSERVED, Certainty.BETWEEN}
    for key, told in union.items():
        if told & sure:
            assert day[key] in sure, "what is sure of an instant is sure of the day"


def test_what_one_scan_shows_kind_after_kind_was_so_at_the_same_time() -> None:
    def seen(begun: float, until: float, passed: float | None) -> Span:
        end = at(passed) if passed is not None else None
        return Span(after=None, begun=at(begun), until=at(until), ended=None, passed=end)

    met = seen(9.1, 9, 9.5).meets(seen(9.3, 9.2, 9.5))
    assert met is not None
    assert met.certainty(DAY, NEXT) == Certainty.OBSERVED
    assert seen(9.1, 9, 9.5).touches(seen(9.3, 9.2, 9.5))
    earlier = seen(9.1, 9, 9.2).meets(seen(9.3, 9.25, 9.5))  # the last scan that showed it had ended before
    assert earlier is not None
    assert earlier.certainty(DAY, NEXT) == Certainty.POSSIBLE
    unknown = seen(9.1, 9, None).meets(seen(9.3, 9.2, 9.5))
    assert unknown is not None
    assert unknown.certainty(DAY, NEXT) == Certainty.POSSIBLE


def test_a_span_joins_what_touches_and_keeps_its_outer_bounds() -> None:
    one = Span(after=at(1), begun=at(2), until=at(5), ended=at(6))
    other = Span(after=at(3), begun=at(4), until=at(9), ended=None)
    assert one.joined(other) == Span(after=at(1), begun=at(2), until=at(9), ended=None)
    assert one.touches(other)
    assert not one.touches(Span(after=at(5), begun=at(6), until=at(7), ended=None))
    apart = Span(after=at(7), begun=at(8), until=at(9), ended=None)
    assert one.meets(apart) is None
