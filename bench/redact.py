"""What redaction costs: microseconds a document, beside decoding the same bytes. `python -m bench.redact [runs]`."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from stocktake.core.redact import Redactor
from stocktake.core.remembered import Sought


def _run(dice: random.Random, secret: bool) -> dict[str, dict[str, str]]:
    ident = f"{dice.getrandbits(128):032x}"
    flavors = {"python_function": {"loader_module": "mlflow.sklearn", "python_version": "3.11.2"}}
    history = [{"run_id": ident, "artifact_path": "model", "flavors": flavors, "model_uuid": ident}]
    return {
        "params": {f"param_{n}_of_the_model": f"{dice.random():.6f}" for n in range(10)}
        | ({"db_password": "letmein" + "2024"} if secret else {}),
        "metrics": {f"validation_metric_{n}": repr(dice.random()) for n in range(10)},
        "tags": {
            "mlflow.user": "ann@example.org",
            "mlflow.source.git.commit": f"{dice.getrandbits(160):040x}",
            "mlflow.source.name": "/Workspace/Repos/ann/train.py",
            "mlflow.runName": "bustling-shrike-617",
            "mlflow.log-model.history": json.dumps(history * 2),
        },
    }


def _raw(document: dict[str, dict[str, str]]) -> bytes:
    stamp = {"timestamp": 1_700_000_000_000, "step": 0}
    listed = {
        name: [{"key": key, "value": value, **(stamp if name == "metrics" else {})} for key, value in pairs.items()]
        for name, pairs in document.items()
    }
    return json.dumps(
        {"info": {"run_id": "0" * 32, "artifact_uri": "mlflow-artifacts:/1/0/artifacts"}, "data": listed}
    ).encode()


def _cost(act: Callable[[Any], object], items: list[Any], rounds: int = 5) -> float:
    """Microseconds an item, the best of some rounds: the machine may be busy with something else. What remembers what
    it has met takes one."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for item in items:
            act(item)
        best = min(best, time.perf_counter() - began)
    return best / len(items) * 1e6


def main(runs: int) -> None:
    """Print the table."""
    dice = random.Random(1)
    redactor = Redactor(b"k" * 32)
    for name, secret in (("clean", False), ("with a secret", True)):
        pairs = [(document, _raw(document)) for document in (_run(dice, secret) for _ in range(runs))]
        size = sum(len(raw) for _, raw in pairs) // runs
        loads, fast = (
            _cost(lambda pair: json.loads(pair[1]), pairs),
            _cost(lambda pair: msgspec.json.decode(pair[1]), pairs),
        )
        ours = _cost(lambda pair: redactor.redact(pair[0], pair[1]), pairs)
        ratio = f"redact / json.loads {ours / loads:.2f}"
        sys.stdout.write(
            f"{name}: {size} bytes; redact {ours:.1f} us; json.loads {loads:.1f} us; msgspec {fast:.1f} us; {ratio}\n"
        )
    for count in (1, 10):
        values = [f"{dice.getrandbits(64):x}"[: 8 + n] for n in range(count)]  # each of another length: the dearest
        known = [Sought(value, "0" * 12, redactor.remembered).remember(value) for value in values]
        remembering = redactor.remembering(known)
        pairs = [(document, _raw(document)) for document in (_run(dice, secret=False) for _ in range(runs))]
        ours = _cost(lambda pair, by=remembering: by.redact(pair[0], pair[1]), pairs, rounds=1)  # type: ignore[misc]
        sys.stdout.write(f"clean, {count} removed by hand: redact {ours:.1f} us\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
