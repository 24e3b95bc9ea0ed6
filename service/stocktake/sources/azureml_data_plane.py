"""The clients of a workspace's own hosts, MLflow and run-history: made when they are first needed, closed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError
from stocktake.sources import arm_errors
from stocktake.sources.arm import THROTTLE_FLOOR
from stocktake.sources.azureml_history import RunHistory
from stocktake.sources.azureml_hosts import DataPlane, data_plane
from stocktake.sources.http import HttpClient, HttpConfig
from stocktake.sources.mlflow_rest import MlflowRest, MlflowRestConfig
from stocktake.sources.protocol import Item, Traffic


class DataPlaneClients:
    """What is asked on the hosts that the workspace names; none of them is asked anything unless it is ours to ask."""

    def __init__(
        self,
        http: HttpConfig,
        hosts: Sequence[str],
        scope: str,
        mlflow: Callable[[HttpConfig], MlflowRestConfig],
        now: Callable[[], datetime],
        *,
        traffic: Traffic,
        sleep: Callable[[float], object] | None,
        monotonic: Callable[[], float],
    ) -> None:
        self.tracking: object = None  # the workspace's mlFlowTrackingUri, once it is known
        self._http = http
        self._hosts = hosts
        self._scope = scope
        self._config = mlflow
        self._now = now
        self._traffic = traffic
        self._sleep = sleep
        self._monotonic = monotonic
        self._plane: DataPlane | None = None
        self._mlflow: MlflowRest | None = None
        self._history: RunHistory | None = None
        self._history_http: HttpClient | None = None

    def mlflow(self) -> MlflowRest:
        """The workspace's MLflow. Raises SourceError where the workspace names no host that we may ask."""
        if self._mlflow is None:
            config = self._config(self._at(self._where().mlflow))
            self._mlflow = MlflowRest(
                config, self._now, traffic=self._traffic, sleep=self._sleep, monotonic=self._monotonic
            )
        return self._mlflow

    def history(self) -> RunHistory | None:
        """Run-history; None where the workspace names no host that we may ask: other scopes say so."""
        if self._history is None:
            try:
                http = self._at(self._where().history)
            except SourceError:
                return None
            self._history_http = HttpClient(
                http, now=self._now, traffic=self._traffic, sleep=self._sleep, monotonic=self._monotonic
            )
            self._history = RunHistory(self._history_http)
        return self._history

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        """Ask MLflow for assets by id; nothing is learnt where it was not read in this pass."""
        return self._mlflow.confirm(kind, keys) if self._mlflow is not None else {}

    def close(self) -> None:
        """Release connections."""
        for client in (self._mlflow, self._history_http):
            if client is not None:
                client.close()

    def _where(self) -> DataPlane:
        if self._plane is None:
            self._plane = data_plane(self.tracking, self._hosts, self._scope)
        return self._plane

    def _at(self, base_url: str) -> HttpConfig:
        floor = max(self._http.throttle_floor, THROTTLE_FLOOR)
        return replace(self._http, base_url=base_url, explain=arm_errors.explain, throttle_floor=floor)


class _Tag(msgspec.Struct):
    key: Any = None


class _Data(msgspec.Struct, frozen=True):
    tags: list[_Tag] = []


class _Run(msgspec.Struct):
    data: _Data = _Data()


_run = msgspec.json.Decoder(_Run)


def is_root(raw: bytes) -> bool:
    """Whether a run of MLflow has no parent: then its id may be the name of a root job."""
    try:
        tags = _run.decode(raw).data.tags
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True  # asked for in vain at worst
    return all(tag.key != "mlflow.parentRunId" for tag in tags)
