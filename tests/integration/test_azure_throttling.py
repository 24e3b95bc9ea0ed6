"""The client under a limit like Azure's: nothing is sent that it would refuse, and a storm of refusals is sat out."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime

from stocktake.demo.azure.content import TINY
from stocktake.demo.azure.estate import Estate
from stocktake.sources.arm import Arm, ArmConfig
from stocktake.sources.arm_bucket import CAPACITY, RATE, Bucket
from stocktake.sources.azureml_plan import WORKSPACE
from stocktake.sources.http import HttpConfig
from tests.azure import throttle
from tests.azure.server import served
from tests.azure.throttle import Throttle
from tests.servers.azureml import azureml_source
from tests.servers.reading import Clock, read


def test_eight_workspaces_that_share_a_bucket_are_never_refused_and_all_get_their_turns() -> None:
    """Real time, at Azure's rate: with a smaller bucket on both sides, and the same distance between the two."""
    assert CAPACITY < throttle.CAPACITY
    assert RATE == throttle.RATE
    estate = Estate()
    workspaces = [estate.add_workspace(f"w{number}", size=TINY) for number in range(8)]
    bucket, limit = Bucket(capacity=20), Throttle(capacity=30, rate=RATE)
    bucket.pause(0.0)  # no burst: it is taken by whoever comes first, and turns begin when all wait
    together = threading.Barrier(len(workspaces))
    done = list[str]()
    with served(estate, throttle=limit) as server:
        http = HttpConfig(base_url=server.arm, token=server.token, ca_file=str(server.ca_file))

        def ask(number: int) -> None:
            one = workspaces[number]
            config = ArmConfig(http=http, bucket=bucket, member=one.name)
            arm = Arm(config, lambda: datetime.now(UTC))
            together.wait(60)
            for _ in range(10):
                arm.get(one.scope, WORKSPACE.version)
                done.append(one.name)
            arm.close()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert (len(done), limit.refused) == (80, 0)
    last_third = set(done[54:])
    assert len(last_third) == 8, "whoever began first does not end first: the turns went round"


def test_a_storm_of_refusals_some_of_them_told_as_forbidden_is_sat_out_and_nothing_is_lost() -> None:
    clock = Clock()
    estate = Estate(now=clock.now())
    workspace = estate.add_workspace("w", size=replace(TINY, jobs=6))
    limit = Throttle(capacity=5, rate=0.04, clock=clock.monotonic, forbidding=1)
    with served(estate, throttle=limit) as server:
        source = azureml_source(server, workspace, clock, read_ahead=False)
        heard = read(source).heard
        source.close()
        assert server.seen.count(status=429) > 0
        assert server.seen.count(status=403) > 0
    assert [(one.scope.kind, one.error) for one in heard if one.error or one.problems] == []
    assert len(clock.slept) == limit.refused, "each refusal is followed by one wait, and nothing else is"
    assert min(clock.slept) >= 10
