"""What is told, to whom and when: whatever happens to findings nothing is lost, nothing turned round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktake.core.alerting import (
    Alert,
    Member,
    News,
    Planned,
    Quiet,
    Silence,
    Subject,
    Told,
    What,
    attach,
    begun,
    flush,
)
from stocktake.core.findings import State
from stocktake.core.routing import (
    NONE,
    Destination,
    Digest,
    Flapping,
    Mute,
    Pace,
    Policy,
    Route,
    Traits,
    destinations,
    matchers,
)

T0 = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)  # a Monday
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
PAGES = Route(receiver="pager", match=matchers({"severity": "critical"}))
ROOT = Route(receiver="team", digest=True, routes=(PAGES,))
POLICY = Policy(
    root=ROOT,
    receivers={"pager": Traits(acknowledges=True), "team": Traits(), "am": Traits(each=True, refresh=15 * MINUTE)},
    zone=ZoneInfo("Europe/Vienna"),
)


def labelled(**changes: str) -> dict[str, str]:
    """The labels of a finding."""
    return {
        "workspace": "w", "rule": "r", "severity": "critical", "kind": "run", "key": "k", "owner": "ada",
        "finding": "f",
    } | changes  # fmt: skip


def subject(finding: int = 1, state: State = State.OPEN, **labels: str) -> Subject:
    """A finding."""
    return Subject(
        finding=finding, labels=labelled(**{"key": str(finding), "finding": str(finding)} | labels), state=state
    )


@dataclass
class World:
    """Findings, and what their receivers were told: the planner with a memory that is no database."""

    policy: Policy = POLICY
    now: datetime = T0
    subjects: dict[int, Subject] = field(default_factory=dict)
    alerts: dict[tuple[object, ...], Alert] = field(default_factory=dict)
    members: dict[tuple[object, ...], dict[int, Member]] = field(default_factory=dict)
    said: list[tuple[datetime, Alert, Planned]] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    inhibitors: Sequence[Subject] = ()

    def happens(self, subject: Subject, *, opened: bool | None = None, more: bool = False) -> None:
        """Something happened to a finding, and is planned at once."""
        before = self.subjects.get(subject.finding)
        fired = before is not None and before.firing
        self.subjects[subject.finding] = subject
        moves = (self.now,) if fired != subject.firing else ()
        news = News(opened=subject.firing and not fired if opened is None else opened, more=more, moves=moves)
        places = {_key(one): one for one in destinations(self.policy, subject.labels, quiet=subject.quiet)}
        for key in {*places, *(key for key, held in self.members.items() if subject.finding in held)}:
            alert = self.alerts.get(key) or begun(str(key), places[key])
            member = self.members.get(key, {}).get(subject.finding)
            self.alerts[key], made = attach(alert, member, subject, news, self.policy, self.now)
            if made is not None:
                self.members.setdefault(key, {})[subject.finding] = made

    def passes(self, span: timedelta) -> list[tuple[What, tuple[tuple[int, Told], ...]]]:
        """Time goes by, and what falls due is said. Returns what was."""
        end, before = self.now + span, len(self.said)
        while due := [one.due for one in self.alerts.values() if one.due is not None and one.due <= end]:
            self.now = max(self.now, min(due))
            for key, alert in list(self.alerts.items()):
                if alert.due is not None and alert.due <= self.now:
                    self._flush(key, alert)
        self.now = end
        return [(one.what, one.tells) for _, _, one in self.said[before:]]

    def _flush(self, key: tuple[object, ...], alert: Alert) -> None:
        quiet = Quiet(silences=self.silences, inhibitors=self.inhibitors, inhibitions=self.policy.inhibitions)
        held = self.members[key]
        done = flush(alert, held.values(), self.subjects, lambda one: quiet.why(one, self.now), self.policy, self.now)
        assert done.alert.due is None or done.alert.due > self.now, "it is looked at again without an end"
        self.alerts[key] = done.alert
        held.update(done.members)
        self.said += [(self.now, alert, one) for one in done.deliveries]


def _key(one: Destination) -> tuple[object, ...]:
    return one.receiver, one.digest, one.labels


# ---- whatever happens ------------------------------------------------------------------------------------------------

_acts = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from([State.OPEN, State.RESOLVED, State.ACKNOWLEDGED, State.WAIVED, State.STALE]),
        st.integers(0, 200),
    ),
    max_size=40,
)
_shapes = st.sampled_from(
    [
        Route(receiver="pager"),
        Route(receiver="pager", group_by=("finding",)),
        Route(receiver="team", digest=True),
        Route(receiver="am"),
        Route(receiver="am", digest=True),
        Route(receiver="am", pace=Pace(mutes=("night",))),
        replace(ROOT, routes=(replace(PAGES, goes_on=True), Route(receiver="am", group_by=("kind",)))),
    ]
)


@settings(max_examples=150, deadline=None)
@given(acts=_acts, root=_shapes)
def test_what_opened_is_told_and_told_to_be_over_after_that_and_never_before(
    acts: list[tuple[int, State, int]], root: Route
) -> None:
    night = {"night": [Mute(start=time(22), end=time(7))]}
    world = World(policy=replace(POLICY, root=root, mutes=night))
    opened: set[int] = set()
    for finding, state, minutes in acts:
        made = subject(finding, state)
        if made.firing:
            opened.add(finding)
        if finding in opened:
            world.happens(made)
        world.passes(minutes * MINUTE)
    world.passes(timedelta(hours=26))
    told: dict[tuple[str, int], list[Told]] = {}
    for _, alert, planned in world.said:
        for finding, what in planned.tells:
            if planned.what in (What.FIRE, What.UPDATE, What.RESOLVE, What.DIGEST):
                told.setdefault((alert.key, finding), []).append(what)
    assert {finding for _, finding in told} == opened
    for (key, finding), row in told.items():
        digest = "team" in key
        assert digest or row[0] is Told.FIRING
        assert digest or all(one is not other for one, other in pairwise(row)), row
        assert row[-1] is (Told.FIRING if world.subjects[finding].firing else Told.RESOLVED)


@settings(deadline=None)
@given(acts=_acts)
def test_one_alert_has_one_key_for_its_life_and_ends_with_a_resolve(acts: list[tuple[int, State, int]]) -> None:
    world = World(policy=replace(POLICY, root=Route(receiver="pager", group_by=("workspace",))))
    for finding, state, minutes in acts:
        world.happens(subject(finding, state))
        world.passes(minutes * MINUTE)
    for finding in list(world.subjects):
        world.happens(subject(finding, State.RESOLVED))
    world.passes(timedelta(hours=26))
    assert len({alert.key for _, alert, _ in world.said}) <= 1
    fires = [one.what for _, _, one in world.said]
    assert not fires or (fires[0], fires[-1]) == (What.FIRE, What.RESOLVE)
    for _, _, one in world.said:
        assert (one.what is What.RESOLVE) == (one.firing == 0)


# ---- each on its own -------------------------------------------------------------------------------------------------


def test_ten_thousand_at_once_are_one_page() -> None:
    world = World()
    for number in range(10_000):
        world.happens(subject(number))
    ((what, tells),) = world.passes(10 * MINUTE)
    assert (what, len(tells)) == (What.FIRE, 10_000)


def test_only_what_is_critical_pages_and_the_rest_waits_for_nine_o_clock() -> None:
    world = World()
    world.happens(subject(1, severity="warning"))
    world.happens(subject(2, severity="critical"))
    assert [(alert.receiver, one.what) for _, alert, one in world.said] == []
    world.passes(HOUR)
    assert [(alert.receiver, one.what) for _, alert, one in world.said] == [("pager", What.FIRE)]
    world.passes(timedelta(days=1))
    at, alert, one = next(row for row in world.said if row[1].digest)
    assert (at.astimezone(ZoneInfo("Europe/Vienna")).hour, alert.receiver, one.what) == (9, "team", What.DIGEST)


@pytest.mark.parametrize("why", [{"inherited": True}, {"window": "CHG-7"}])
def test_what_was_so_before_we_looked_and_what_was_meant_never_page(why: Mapping[str, object]) -> None:
    made = replace(subject(severity="critical"), **why)  # type: ignore[arg-type]
    (to,) = destinations(POLICY, made.labels, quiet=made.quiet)
    assert (to.receiver, to.digest) == ("team", True)


def test_a_pause_between_two_digests_is_told_once() -> None:
    world = World()
    world.happens(subject(1, severity="info"))
    world.passes(MINUTE)
    world.happens(subject(1, State.RESOLVED, severity="info"))
    assert world.passes(timedelta(days=5)) == [(What.DIGEST, ((1, Told.RESOLVED),))]


def test_what_happens_once_more_is_told_once_more_when_the_interval_is_over() -> None:
    world = World()
    world.happens(subject(1))
    world.happens(subject(2))
    world.passes(MINUTE)
    world.happens(subject(1), more=True)
    assert world.passes(MINUTE) == []
    assert world.passes(5 * MINUTE) == [(What.FIRE, ((1, Told.FIRING),))]
    assert world.passes(HOUR) == []
    world.happens(subject(1, State.RESOLVED))
    world.happens(subject(2, State.RESOLVED))
    assert world.passes(HOUR)[-1][0] is What.RESOLVE


def test_what_happens_once_more_is_news_to_whoever_took_it_on() -> None:
    world = World()
    world.happens(subject(1))
    world.passes(MINUTE)
    world.happens(subject(1, State.ACKNOWLEDGED))
    world.passes(HOUR)
    world.happens(subject(1), more=True)
    assert world.passes(HOUR) == [(What.FIRE, ((1, Told.FIRING),))]
    assert not next(iter(world.alerts.values())).acknowledged


def test_who_takes_on_what_happened_once_more_is_not_told_of_it() -> None:
    world = World()
    world.happens(subject(1))
    world.passes(MINUTE)
    world.happens(subject(1), more=True)
    world.passes(MINUTE)
    world.happens(subject(1, State.ACKNOWLEDGED))
    assert [what for what, _ in world.passes(HOUR)] == [What.ACKNOWLEDGE]


@pytest.mark.parametrize("once", [True, False])
def test_what_ended_and_began_with_something_else_before_anybody_looked_is_told(once: bool) -> None:
    world = World()
    world.happens(subject(1))
    world.passes(MINUTE)
    if once:
        world.happens(subject(1), more=True)
    world.happens(subject(1, State.RESOLVED))
    world.happens(subject(1), more=not once)
    assert world.passes(HOUR) == [(What.FIRE, ((1, Told.FIRING),))]


def test_what_happens_once_more_in_a_silence_is_told_when_it_is_over() -> None:
    world = World()
    world.happens(subject(1))
    world.passes(MINUTE)
    world.silences = [Silence(match=matchers({"rule": "r"}), starts=world.now, ends=world.now + HOUR)]
    world.happens(subject(1), more=True)
    assert world.passes(timedelta(minutes=59)) == []
    assert world.passes(HOUR) == [(What.FIRE, ((1, Told.FIRING),))]


def test_what_happens_once_more_as_it_was_approved_is_no_news() -> None:
    world = World()
    world.happens(subject(1))
    world.passes(MINUTE)
    world.happens(replace(subject(1), window="CHG-7"), more=True)
    assert [what for what, _ in world.passes(3 * HOUR)] == []


def test_what_is_over_before_anybody_was_told_is_told_and_told_to_be_over() -> None:
    world = World()
    world.happens(subject(1))
    world.passes(timedelta(seconds=5))
    world.happens(subject(1, State.RESOLVED))
    assert world.passes(HOUR) == [(What.FIRE, ((1, Told.FIRING),)), (What.RESOLVE, ((1, Told.RESOLVED),))]
    assert [one.firing for _, _, one in world.said] == [1, 0]


def test_it_is_repeated_until_somebody_takes_it_on() -> None:
    world = World()
    world.happens(subject(1))
    world.passes(9 * HOUR)
    assert [one.what for _, _, one in world.said] == [What.FIRE, What.REPEAT, What.REPEAT]
    world.happens(subject(1, State.ACKNOWLEDGED))
    assert world.passes(24 * HOUR) == [(What.ACKNOWLEDGE, ((1, Told.FIRING),))]
    world.happens(subject(1, State.RESOLVED))
    assert [what for what, _ in world.passes(HOUR)] == [What.RESOLVE]


def test_what_nobody_could_look_at_is_not_over() -> None:
    world = World()
    world.happens(subject(1))
    world.passes(HOUR)
    world.happens(subject(1, State.STALE))
    assert world.passes(timedelta(days=2)) == [(What.ACKNOWLEDGE, ((1, Told.FIRING),))]


def test_a_waived_one_is_over_until_its_waiver_ends() -> None:
    world = World()
    world.happens(subject(1))
    world.passes(HOUR)
    world.happens(subject(1, State.WAIVED))
    assert [what for what, _ in world.passes(HOUR)] == [What.RESOLVE]
    world.happens(subject(1, State.OPEN))
    assert [what for what, _ in world.passes(HOUR)] == [What.FIRE]


def test_a_silence_holds_back_what_is_new_and_not_that_it_is_over() -> None:
    world = World()
    world.happens(subject(1))
    world.passes(HOUR)
    world.silences = [Silence(match=matchers({"workspace": "w*"}), starts=T0, ends=T0 + 10 * HOUR)]
    world.happens(subject(2))
    world.happens(subject(1, State.RESOLVED))
    assert [tells for _, tells in world.passes(5 * HOUR)] == [((1, Told.RESOLVED),)]
    assert [tells for _, tells in world.passes(5 * HOUR)] == [((2, Told.FIRING),)]


def test_what_was_over_while_it_was_silenced_is_never_told() -> None:
    world = World(silences=[Silence(match=(), starts=T0, ends=T0 + 10 * HOUR)])
    world.happens(subject(1))
    world.passes(HOUR)
    world.happens(subject(1, State.RESOLVED))
    assert world.passes(24 * HOUR) == []


def test_a_muted_alert_speaks_when_its_time_is_over() -> None:
    night = {"night": [Mute(start=time(13), end=time(9))]}
    world = World(policy=replace(POLICY, root=Route(receiver="pager", pace=Pace(mutes=("night",))), mutes=night))
    world.happens(subject(1))
    assert world.passes(12 * HOUR) == []
    world.passes(12 * HOUR)
    at, _, one = world.said[0]
    assert one.what is What.FIRE
    assert at.astimezone(ZoneInfo("Europe/Vienna")).hour == 9


def test_a_span_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    friday = Mute(days=frozenset({4}), start=time(22), end=time(6))
    assert friday.holds(datetime(2026, 6, 5, 23, tzinfo=UTC), UTC)
    assert friday.holds(datetime(2026, 6, 6, 5, tzinfo=UTC), UTC)
    assert not friday.holds(datetime(2026, 6, 5, 5, tzinfo=UTC), UTC)
    assert not friday.holds(datetime(2026, 6, 6, 23, tzinfo=UTC), UTC)


def test_a_workspace_that_cannot_be_looked_at_goes_before_all_that_is_in_it() -> None:
    lost = subject(9, rule="access-lost", kind="workspace")
    world = World(inhibitors=[lost])
    world.happens(subject(1))
    world.happens(lost)
    assert [tells for _, tells in world.passes(3 * HOUR)] == [((9, Told.FIRING),)]
    world.inhibitors = []
    assert [tells for what, tells in world.passes(HOUR) if what is What.FIRE] == [((1, Told.FIRING),)]


def test_kinds_that_cannot_be_looked_at_go_before_what_is_about_them_and_nothing_else() -> None:
    lost = replace(subject(9, rule="access-lost", kind="workspace"), kinds=frozenset({"compute", "run"}))
    quiet = Quiet(inhibitors=[lost], inhibitions=POLICY.inhibitions)
    said = {kind: quiet.why(subject(1, kind=kind), T0) for kind in ("run", "compute", "registered_model", "workspace")}
    assert said == {"run": "inhibited", "compute": "inhibited", "registered_model": None, "workspace": None}


def test_a_parent_goes_before_its_children_and_only_where_it_is_as_bad() -> None:
    parent = subject(9, rule="experiment-deleted", kind="experiment", key="1", severity="warning")
    quiet = Quiet(inhibitors=[parent], inhibitions=POLICY.inhibitions)
    child = replace(subject(1, severity="warning"), parents=frozenset({("experiment", "1")}))
    assert quiet.why(child, T0) == "inhibited"
    assert quiet.why(replace(child, parents=frozenset({("experiment", "2")})), T0) is None
    assert quiet.why(replace(child, labels=child.labels | {"severity": "critical"}), T0) is None  # type: ignore[operator]
    assert quiet.why(parent, T0) is None
    run = replace(subject(1, severity="info", rule="run-deleted"), parents=frozenset({("experiment", "1")}))
    assert quiet.why(run, T0) == "inhibited"


def test_what_opens_and_closes_all_the_time_is_told_when_it_stands_still() -> None:
    world = World(policy=replace(POLICY, flapping=Flapping(moves=4, within=2 * HOUR, settle=HOUR)))
    for number in range(24):
        world.happens(subject(1, State.RESOLVED if number % 2 else State.OPEN))
        world.passes(10 * MINUTE)
    flapped = len(world.said)
    assert flapped < 6
    assert world.passes(49 * MINUTE) == []
    assert [what for what, _ in world.passes(HOUR)] == [What.RESOLVE]


def test_a_receiver_that_forgets_is_told_again_as_long_as_it_fires() -> None:
    world = World(policy=replace(POLICY, root=Route(receiver="am")))
    for number in range(250):
        world.happens(subject(number))
    world.passes(20 * MINUTE)
    assert [(one.what, len(one.tells), one.part, one.parts) for _, _, one in world.said] == [
        (What.FIRE, 100, 1, 3), (What.FIRE, 100, 2, 3), (What.FIRE, 50, 3, 3),
        (What.REFRESH, 100, 1, 3), (What.REFRESH, 100, 2, 3), (What.REFRESH, 50, 3, 3),
    ]  # fmt: skip


def test_while_something_is_on_its_way_nothing_is_said_again() -> None:
    alert = Alert(
        key="k", receiver="pager", labels=(), digest=False, pace=Pace(), told=Told.FIRING, told_at=T0 - 24 * HOUR
    )
    member = Member(finding=1, told=Told.FIRING)
    known = {1: subject(1)}
    assert flush(alert, [member], known, lambda _: None, POLICY, T0).deliveries[0].what is What.REPEAT
    assert flush(alert, [member], known, lambda _: None, POLICY, T0, queued=True).deliveries == ()


# ---- the tree --------------------------------------------------------------------------------------------------------


def test_the_first_route_that_fits_takes_it_and_one_that_goes_on_lets_others() -> None:
    tree = Route(
        receiver="root",
        routes=(
            Route(receiver="all", goes_on=True),
            Route(
                receiver="prod",
                match=matchers({"workspace": "prod-*", "owner": ["!bob", "a*"]}),
                routes=(Route(receiver="deep", match=matchers({"label.tier": "1"}), group_by=("label.tier",)),),
            ),
            Route(receiver=NONE, match=matchers({"rule": "noise-?"})),
            Route(receiver="never", match=matchers({"workspace": "prod-*", "owner": "ada"})),
        ),
    )
    policy = replace(POLICY, root=tree)

    def takes(**labels: str) -> list[str]:
        return [one.receiver for one in destinations(policy, labelled(**labels), quiet=False)]

    assert takes(workspace="prod-1") == ["all", "prod"]
    assert takes(workspace="prod-1", owner="bob") == ["all"]
    assert takes(workspace="prod-1", **{"label.tier": "1"}) == ["all", "deep"]
    assert takes(rule="noise-1") == ["all"]
    assert takes() == ["all"]


@settings(deadline=None)
@given(labels=st.fixed_dictionaries({name: st.text(max_size=3) for name in ("workspace", "rule", "severity", "owner")}))
def test_a_tree_takes_everything(labels: dict[str, str]) -> None:
    assert destinations(POLICY, labelled(**labels), quiet=False)


def test_the_digest_comes_at_its_hour_of_the_clock_in_summer_and_in_winter() -> None:
    vienna, digest = ZoneInfo("Europe/Vienna"), Digest(at=time(9), days=frozenset(range(5)))
    friday = datetime(2026, 10, 23, 8, 0, tzinfo=UTC)
    following = digest.after(friday, vienna)
    assert following == datetime(2026, 10, 26, 8, 0, tzinfo=UTC)  # Monday, after the clocks went back
    assert digest.after(datetime(2026, 10, 23, 6, 59, tzinfo=UTC), vienna) == datetime(2026, 10, 23, 7, 0, tzinfo=UTC)
