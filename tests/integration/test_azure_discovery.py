"""Discovery against a loopback Azure: what is found, what could not be looked at, and how workspaces come and go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake import discovering
from stocktake.core.assets import Mode
from stocktake.core.discovery import Event, Standing
from stocktake.core.errors import ConfigError
from stocktake.core.redact import Redactor
from stocktake.demo.azure.content import TINY
from stocktake.demo.azure.estate import MANAGEMENT_GROUP, Estate
from stocktake.demo.azure.workspace import Workspace
from stocktake.discovering import Looked
from stocktake.making import Shared, address
from stocktake.settings import Settings
from stocktake.store import discovered
from stocktake.store.discovered import Found
from tests.azure.server import AzureServer, served
from tests.integration.azureml_told import Told
from tests.integration.registry import found, stands
from tests.servers.reading import Clock

READ = "Microsoft.MachineLearningServices/workspaces/read"


@dataclass
class Scene:
    """A loopback Azure, a database, and entries that look into the one and write into the other."""

    azure: AzureServer
    engine: Engine
    clock: Clock = field(default_factory=Clock)
    settings: Settings = field(default_factory=Settings)

    @property
    def estate(self) -> Estate:
        return self.azure.estate

    def add(self, name: str, **more: Any) -> Workspace:
        return self.estate.add_workspace(name, size=TINY, **more)

    def entry(self, name: str = "platform", **more: Any) -> dict[str, Any]:
        if not {"subscriptions", "resource_groups", "management_group"} & set(more):
            more["subscriptions"] = list(self.estate.subscriptions)
        return {"name": name, "azureml": self.access(), **more}

    def access(self) -> dict[str, Any]:
        return {
            "custom_cloud": {"resource_manager": self.azure.arm, "data_hosts": ["localhost"]},
            "credential": "token",
            "token_env": "TOKEN",
            "ca_file": str(self.azure.ca_file),
        }

    def configure(self, *entries: dict[str, Any], workspaces: tuple[dict[str, Any], ...] = ()) -> None:
        given = {"discovery": list(entries or (self.entry(),)), "workspaces": list(workspaces)}
        self.settings = Settings.model_validate(given)

    def named(self, name: str, workspace: Workspace) -> dict[str, Any]:
        place = {"subscription": workspace.subscription, "resource_group": workspace.group, "workspace": workspace.name}
        return {"name": name, "azureml": {**self.access(), **place}}

    def look(self, number: int = 0) -> Looked:
        if not self.settings.discovery:
            self.configure()
        entry = self.settings.discovery[number]
        source = discovering.make_discovery(
            entry,
            self.settings,
            {"TOKEN": self.azure.token()},
            self.clock.now,
            Shared(),
            sleep=self.clock.sleep,
            monotonic=self.clock.monotonic,
        )
        return discovering.look(self.engine, self.settings, entry, Redactor(b"k" * 32), source)

    def rows(self) -> dict[str, Found]:
        with self.engine.connect() as connection:
            return {one.name: one for one in discovered.found(connection)}

    def standings(self) -> dict[str, str]:
        return {name: one.standing for name, one in self.rows().items()}

    def watched(self) -> list[str]:
        with self.engine.connect() as connection:
            return [one.name for one in discovering.watched(connection, self.settings)]

    def events(self) -> list[tuple[str, str]]:
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT workspace, event FROM inventory.discovery_event ORDER BY id"))
            return [(row.workspace, row.event) for row in rows]


@pytest.fixture
def scene(engine: Engine) -> Iterator[Scene]:
    with served(Estate()) as azure:
        yield Scene(azure, engine)


def unlooked(looked: Looked) -> dict[str, str]:
    return {scope.path: scope.trouble for scope in looked.look.scopes if not scope.looked}


def test_what_is_found_first_is_a_baseline_and_what_comes_later_has_appeared(scene: Scene) -> None:
    scene.add("Fraud_Prod", tags={"env": "prod"})
    first = scene.look()
    assert scene.watched() == ["fraud-prod"]
    assert [one.baseline for one in first.happened] == [True]
    assert scene.events() == []
    scene.add("ranking")
    scene.look()
    assert scene.watched() == ["fraud-prod", "ranking"]
    assert scene.events() == [("ranking", Event.APPEARED)]
    assert scene.look().happened == []


def test_a_found_workspace_gets_what_its_entry_says(scene: Scene) -> None:
    one = scene.add("fraud")
    scene.configure(scene.entry(owner="ml-platform", labels={"cost": "42"}, schedule={"hot": "5m"}))
    scene.look()
    with scene.engine.connect() as connection:
        (made,) = discovering.watched(connection, scene.settings)
        assert discovering.widened(scene.settings, connection).workspaces == (made,)
    assert (made.owner, made.labels) == ("ml-platform", {"cost": "42"})
    assert made.schedule is not None
    assert made.azureml is not None
    assert made.azureml.credential == "token"
    assert address(made) == scene.azure.arm + one.scope


def test_tags_select_and_a_workspace_that_lost_its_tag_is_not_one_that_is_gone(scene: Scene) -> None:
    one = scene.add("fraud", tags={"Stocktake": "yes"})
    scene.add("other", tags={"Stocktake": "no"})
    scene.configure(scene.entry(tags=["stocktake=yes"]))
    scene.look()
    assert scene.watched() == ["fraud"]
    one.edit_workspace(tags={"Stocktake": "later"})
    scene.look()
    assert scene.standings() == {"fraud": Standing.UNSELECTED}
    assert scene.watched() == []
    one.edit_workspace(tags={"Stocktake": "yes"})
    scene.look()
    assert scene.watched() == ["fraud"]
    assert scene.events() == [("fraud", Event.UNSELECTED), ("fraud", Event.RETURNED)]


def test_a_secret_in_a_tag_is_not_kept(scene: Scene) -> None:
    scene.add("fraud", tags={"api_password": "hunter2-hunter2", "env": "prod"})
    scene.look()
    with scene.engine.connect() as connection:
        kept = str(connection.execute(text("SELECT tags FROM discovered")).scalar_one())
    assert "hunter2" not in kept
    assert '"env":"prod"' in kept


def test_deleted_is_told_from_soft_deleted_and_brought_back(scene: Scene) -> None:
    one = scene.add("fraud")
    scene.add("stays")
    scene.look()
    one.soft_delete()
    scene.look()
    row = scene.rows()["fraud"]
    assert row.standing == Standing.SOFT_DELETED
    assert "can be brought back until" in row.why
    assert scene.watched() == ["fraud", "stays"]  # its scans tell the end of its history
    one.recover()
    scene.look()
    assert scene.standings()["fraud"] == Standing.WATCHED
    one.soft_delete()
    scene.look()
    scene.estate.tick(15 * 24 * 3600)
    scene.look()
    row = scene.rows()["fraud"]
    assert (row.standing, row.name) == (Standing.DELETED, "fraud")
    assert scene.watched() == ["stays"]
    assert scene.events() == [
        ("fraud", Event.SOFT_DELETED),
        ("fraud", Event.RETURNED),
        ("fraud", Event.SOFT_DELETED),
        ("fraud", Event.DELETED),
    ]


def test_where_the_list_of_deleted_ones_is_not_offered_that_is_said(scene: Scene) -> None:
    one = scene.add("fraud")
    scene.look()
    one.soft_delete()
    scene.azure.faults.status(404, "deletedWorkspaces", times=None)
    scene.look()
    row = scene.rows()["fraud"]
    assert row.standing == Standing.DELETED
    assert "is not told here" in row.why


def test_half_of_the_subscriptions_denied_takes_nothing_away(scene: Scene) -> None:
    for number in range(6):
        scene.add(f"w{number}", subscription=number)
    scene.look()
    ids = list(scene.estate.subscriptions)
    for number in range(3):
        scene.estate.deny(f"/subscriptions/{ids[number]}")
    looked = scene.look()
    assert unlooked(looked) == {f"/subscriptions/{ids[number]}": "permission" for number in range(3)}
    assert scene.standings() == {
        f"w{number}": Standing.ACCESS_LOST if number < 3 else Standing.WATCHED for number in range(6)
    }
    assert len(scene.watched()) == 6  # carried: their scans say that nothing can be seen
    for number in range(3):
        scene.estate.allow(f"/subscriptions/{ids[number]}")
    scene.look()
    assert set(scene.standings().values()) == {Standing.WATCHED}


def test_a_subscription_that_was_denied_at_first_is_a_baseline_when_it_opens(scene: Scene) -> None:
    scene.add("open", subscription=0)
    scene.add("shut", subscription=1)
    shut = list(scene.estate.subscriptions)[1]
    scene.estate.deny(f"/subscriptions/{shut}")
    scene.look()
    assert scene.watched() == ["open"]
    scene.estate.allow(f"/subscriptions/{shut}")
    scene.look()
    assert scene.watched() == ["open", "shut"]
    assert scene.events() == []


def test_a_workspace_that_may_not_be_read_any_more_is_access_lost_though_its_neighbours_are_listed(
    scene: Scene,
) -> None:
    one = scene.add("fraud")
    scene.add("stays")
    scene.look()
    scene.estate.deny(one.scope)
    scene.look()
    row = scene.rows()["fraud"]
    assert row.standing == Standing.ACCESS_LOST
    assert "may not be read any more" in row.why
    assert "fraud" in scene.watched()


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_subscription_whose_list_fails_is_not_looked_at_and_nothing_is_asked_of_its_workspaces(
    scene: Scene, code: int
) -> None:
    one = scene.add("fraud")
    scene.look()
    one.soft_delete()
    scene.azure.seen.clear()
    scene.azure.faults.status(code, "workspaces", times=None, headers={"Retry-After": "0"})
    looked = scene.look()
    assert list(unlooked(looked).values()) == ["throttled" if code == 429 else "server"]
    assert not [what.path for what, _ in scene.azure.seen.requests if what.path.endswith("/fraud")]
    assert scene.standings() == {"fraud": Standing.WATCHED}
    assert scene.events() == []
    scene.azure.faults.clear()
    scene.look()
    assert scene.standings() == {"fraud": Standing.SOFT_DELETED}


def test_where_resource_graph_is_denied_every_subscription_is_listed(scene: Scene) -> None:
    for number in range(3):
        scene.add(f"w{number}", subscription=number)
    scene.azure.faults.status(403, "resources", times=None)
    looked = scene.look()
    assert set(looked.look.how.values()) == {"list"}
    assert scene.watched() == ["w0", "w1", "w2"]
    assert scene.azure.seen.count(plane="arm", family="workspaces") == 3


def test_resource_graph_that_is_cut_off_halfway_is_no_answer_but_what_it_showed_is_there(scene: Scene) -> None:
    for number in range(1200):
        scene.add(f"w{number:04}")

    def halfway(body: dict[str, Any]) -> dict[str, Any]:
        return body if "$skipToken" in body else {"count": 0}

    scene.azure.faults.change("resources", halfway)
    looked = scene.look()
    assert Counter(looked.look.how.values()) == {"resource-graph": 1000, "list": 200}
    assert len(scene.watched()) == 1200


def test_a_storm_of_429_ends_with_everything_found(scene: Scene) -> None:
    for number in range(4):
        scene.add(f"w{number}", subscription=number)
    scene.azure.faults.status(429, "resources", times=2, headers={"Retry-After": "0"})
    scene.azure.faults.status(429, "workspaces", times=3, headers={"Retry-After": "0"})
    assert unlooked(scene.look()) == {}
    assert len(scene.watched()) == 4


def test_three_hundred_workspaces_of_a_management_group_cost_a_request_for_each_empty_subscription_and_two(
    scene: Scene,
) -> None:
    for number in range(300):
        scene.add(f"w{number:03}", subscription=number % 60)
    for number in range(60, 80):
        scene.estate.subscription(number)
    scene.configure(scene.entry(management_group=MANAGEMENT_GROUP))
    looked = scene.look()
    assert len(scene.watched()) == 300
    assert unlooked(looked) == {}
    descendants = scene.azure.seen.count(family="managementGroups/descendants")
    assert scene.azure.seen.count(plane="graph") == 1
    assert scene.azure.seen.count(plane="arm", family="workspaces") == 20
    assert looked.look.requests == len(scene.azure.seen) == 21 + descendants


def test_a_management_group_whose_descendants_are_not_told_is_asked_of_resource_graph(scene: Scene) -> None:
    one = scene.add("fraud")
    scene.add("other", subscription=1)
    scene.configure(scene.entry(management_group=MANAGEMENT_GROUP))
    scene.azure.faults.status(403, "managementGroups/descendants", times=None)
    looked = scene.look()
    assert scene.watched() == ["fraud", "other"]
    assert list(unlooked(looked)) == [f"/providers/Microsoft.Management/managementGroups/{MANAGEMENT_GROUP}"]
    one.soft_delete()
    scene.look()
    assert scene.standings()["fraud"] == Standing.SOFT_DELETED


def test_a_management_group_that_nobody_may_read_takes_nothing_away(scene: Scene) -> None:
    scene.add("fraud")
    scene.configure(scene.entry(management_group=MANAGEMENT_GROUP))
    scene.look()
    scene.azure.faults.status(403, "managementGroups/descendants", times=None)
    scene.azure.faults.status(403, "resources", times=None)
    scene.look()
    assert scene.standings() == {"fraud": Standing.WATCHED}  # asked for by its id, it is there


def test_names_that_collide_get_marks_and_are_never_given_again(scene: Scene) -> None:
    first = scene.add("ml", group="a")
    scene.look()
    scene.add("ML", group="b")
    scene.add("m_l", group="c")
    scene.look()
    names = scene.watched()
    assert "ml" in names
    marked = [name for name in names if name.startswith("ml-")]
    assert (len(names), len(marked)) == (3, 1)
    assert scene.rows()["ml"].place.resource_group == "a"
    first.soft_delete()
    scene.estate.tick(15 * 24 * 3600)
    scene.look()
    scene.add("ml", group="d")
    scene.look()
    assert scene.rows()["ml"].place.resource_group == "a"
    assert set(names) < set(scene.rows())


def test_a_workspace_that_is_named_in_the_configuration_is_not_watched_twice(scene: Scene) -> None:
    one = scene.add("fraud")
    scene.add("other")
    scene.configure(scene.entry(), workspaces=(scene.named("by-hand", one),))
    scene.look()
    assert scene.watched() == ["other"]


def test_a_workspace_that_was_named_by_hand_keeps_its_name_when_it_is_found(scene: Scene) -> None:
    one = scene.add("fraud")
    uri = scene.azure.arm + one.scope.replace("/ml/", "/ML/")
    with scene.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO workspace (name, source, uri) VALUES ('by-hand', 'azureml', :uri)"), {"uri": uri}
        )
    scene.look()
    assert scene.watched() == ["by-hand"]


def test_a_name_that_discovery_gave_is_refused_to_another_workspace(scene: Scene) -> None:
    scene.add("fraud")
    other = scene.add("other", group="elsewhere", subscription=1)
    scene.configure(scene.entry(subscriptions=[next(iter(scene.estate.subscriptions))]))
    scene.look()
    scene.configure(*[scene.entry()], workspaces=(scene.named("fraud", other),))
    with scene.engine.connect() as connection, pytest.raises(ConfigError, match="is one that discovery found"):
        discovering.refuse_taken(scene.settings, connection)


def test_two_entries_do_not_share_a_workspace_and_one_that_is_gone_leaves_its_own_to_the_other(scene: Scene) -> None:
    scene.add("fraud")
    scene.configure(scene.entry("a"), scene.entry("b", owner="b-team"))
    scene.look(0)
    scene.look(1)
    assert scene.rows()["fraud"].entry == "a"
    scene.configure(scene.entry("b", owner="b-team"))
    assert scene.watched() == []
    scene.look()
    assert scene.watched() == ["fraud"]
    assert scene.rows()["fraud"].entry == "b"


def test_a_workspace_outside_of_what_an_entry_names_now_is_unselected_and_not_deleted(scene: Scene) -> None:
    scene.add("fraud", subscription=0)
    scene.add("other", subscription=1)
    scene.configure()
    scene.look()
    scene.configure(scene.entry(subscriptions=[list(scene.estate.subscriptions)[1]]))
    scene.look()
    assert scene.standings() == {"fraud": Standing.UNSELECTED, "other": Standing.WATCHED}


def test_a_look_that_was_overtaken_ends_nothing(scene: Scene) -> None:
    scene.add("fraud")
    scene.look()
    scene_rows = scene.rows()
    with scene.engine.begin() as connection:
        connection.execute(text("UPDATE discovered SET judged_at = judged_at + interval '1 hour'"))
    scene.estate.workspace("fraud").soft_delete()
    assert scene.look().happened == []
    assert scene.standings() == dict.fromkeys(scene_rows, Standing.WATCHED)


# ---- what the rules say of how one ended -----------------------------------------------------------------------------


def test_what_is_found_deleted_is_looked_at_once_more_so_that_a_finding_tells(scene: Scene) -> None:
    workspace = scene.add("fraud")
    scene.look()
    told = Told(scene.engine, scene.azure, workspace, name="fraud")
    told.scan(Mode.SWEEP)
    workspace.state = "deleted"
    scene.look()
    assert scene.standings() == {"fraud": Standing.DELETED}
    assert scene.watched() == ["fraud"]
    told.scan()
    assert scene.watched() == []
    (finding,) = found(scene.engine, "workspace-deleted")
    assert (finding.workspace, finding.state, finding.evidence["how"]) == ("fraud", "open", "Deleted")


def test_what_was_never_scanned_or_moved_before_anybody_took_it_for_deleted_is_not_looked_at_again(
    scene: Scene,
) -> None:
    workspace = scene.add("fraud")
    other = scene.add("ranking")
    scene.look()
    told = Told(scene.engine, scene.azure, other, name="ranking")
    told.scan(Mode.SWEEP)
    workspace.state = "deleted"
    scene.look()
    assert scene.watched() == ["ranking"]
    with scene.engine.begin() as connection:
        connection.execute(
            text("UPDATE discovered SET standing = 'moved', since = clock_timestamp() WHERE name = 'ranking'")
        )
    assert scene.watched() == []


def test_what_a_scan_took_for_deleted_and_is_found_elsewhere_is_looked_at_until_that_is_said(scene: Scene) -> None:
    workspace = scene.add("fraud")
    scene.look()
    told = Told(scene.engine, scene.azure, workspace, name="fraud")
    told.scan(Mode.SWEEP)
    workspace.state = "deleted"
    told.scan()
    with scene.engine.begin() as connection:
        connection.execute(
            text("UPDATE discovered SET standing = 'moved', since = clock_timestamp() WHERE name = 'fraud'")
        )
    assert scene.watched() == ["fraud"]
    told.scan()
    assert stands(scene.engine, "workspace-deleted") == {"workspace": "resolved"}
    assert scene.watched() == []
