"""The quick way to parse a run and the lenient one agree, whatever a server writes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stocktake.core import canonical
from stocktake.core.canonical import params_digest
from stocktake.core.errors import SourceError
from stocktake.sources.mlflow_runs import parse_run, quick_run
from stocktake.sources.mlflow_values import decode

_TEXT = st.text(max_size=12)
_NUMBER = st.floats() | st.integers(-(2**70), 2**70) | st.sampled_from(["NaN", "Infinity", "-1.5", "x"])
_TIME = st.integers(0, 2**63) | st.sampled_from(["1700000000000", None, 5.0, 1e300])


def _list_of(fields: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.fixed_dictionaries(fields, optional=optional), max_size=4)


_RUNS = st.fixed_dictionaries(
    {
        "info": st.fixed_dictionaries(
            {"run_id": st.sampled_from(["r1", ""]), "experiment_id": st.sampled_from(["1", 1, ""])},
            optional={
                "run_uuid": st.sampled_from(["r1", "r2", ""]),
                "status": st.sampled_from(["FINISHED", 3, "SCHEDULED", None]),
                "lifecycle_stage": st.sampled_from(["active", "deleted", "Active", "gone", None]),
                "run_name": _TEXT | st.none(),
                "user_id": _TEXT,
                "artifact_uri": _TEXT | st.none(),
                "start_time": _TIME,
                "end_time": _TIME,
                "new_field": st.integers(),
            },
        ),
        "data": st.fixed_dictionaries(
            {},
            optional={
                "metrics": _list_of(
                    {"key": _TEXT, "value": _NUMBER},
                    timestamp=_TIME,
                    step=st.integers(-5, 5) | st.just("3"),
                    model_id=_TEXT,
                    dataset_name=_TEXT,
                ),
                "params": _list_of({"key": _TEXT}, value=_TEXT | st.none() | st.integers()),
                "tags": _list_of(
                    {"key": st.sampled_from(["mlflow.user", "owner", "mlflow.parentRunId", "mlflow.runName", "t"])},
                    value=_TEXT,
                ),
            },
        ),
    },
    optional={
        "inputs": st.sampled_from(
            [
                {},
                {"dataset_inputs": [{"dataset": {"name": "d", "digest": "1"}, "tags": [{"key": "k", "value": "v"}]}]},
                {"dataset_inputs": [{"dataset": {}}]},
                {"model_inputs": [{"model_id": "m-1"}]},
                {"dataset_inputs": 5},
            ]
        ),
        "outputs": st.sampled_from([{}, {"model_outputs": [{"model_id": "m-1", "step": 2}]}, {"more": 1}]),
        "more": st.integers(),
    },
)
_WHOLE = {
    "info": {"run_id": "r1", "run_uuid": "r1", "experiment_id": "1", "status": "FINISHED", "lifecycle_stage": "active"},
    "data": {"metrics": [{"key": "m", "value": 1, "timestamp": 3, "step": 0}], "params": [{"key": "p"}], "tags": []},
}


@settings(deadline=None, max_examples=400)
@example(_WHOLE)
@given(_RUNS)
def test_what_is_parsed_quickly_is_what_the_lenient_way_says(run: dict[str, Any]) -> None:
    raw = json.dumps(run).encode()
    try:
        quick = quick_run(raw, ("owner",))
    except (SourceError, TypeError) as exc:
        with pytest.raises(type(exc), match=re.escape(str(exc))):
            parse_run(decode(raw), ("owner",))
        return
    if quick is None:
        return  # left to the lenient way
    slow = parse_run(decode(raw), ("owner",))
    assert quick == slow
    assert json.dumps(quick.document, sort_keys=True) == json.dumps(slow.document, sort_keys=True)


def test_a_run_as_mlflow_documents_it_takes_the_quick_way() -> None:
    assert quick_run(json.dumps(_WHOLE).encode()) == parse_run(_WHOLE)


@settings(deadline=None)
@given(st.dictionaries(_TEXT, st.text()))
def test_the_digest_of_params_is_that_of_what_is_stored(params: dict[str, str]) -> None:
    stored = canonical.decode(canonical.encode({"params": params}))["params"]
    assert params_digest(stored) == params_digest(params)
