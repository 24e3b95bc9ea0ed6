"""The people behind stocktake's back: one process that trains, fills the server and later changes it, when told to.

It reads commands (JSON lines) from its standard input, answers with JSON lines, and ends when the input does. It is a
process of its own because the client of MLflow and scikit-learn weigh hundreds of megabytes, and because nothing in
stocktake's own process may ever be able to write to what it watches.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any, TextIO

from stocktake.demo import changes, fill, training


def _silence_fds() -> TextIO:
    """Keep the pipe for our answers alone: whatever a library prints goes to the log (standard error)."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return answers


class _Answers:
    """Says what is being done, and after each stage how long it took."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._stage: str | None = None
        self._began = 0.0

    def stage(self, name: str) -> None:
        self.close_stage()
        self._stage, self._began = name, time.monotonic()
        self._say(stage=name)

    def close_stage(self) -> None:
        if self._stage is not None:
            self._say(stage=self._stage, seconds=round(time.monotonic() - self._began, 2))
            self._stage = None

    def done(self, **facts: Any) -> None:
        self.close_stage()
        self._say(done=True, **facts)

    def failed(self, exc: BaseException) -> None:
        self._stage = None
        self._say(failed=f"{type(exc).__name__}: {exc}")

    def _say(self, **facts: Any) -> None:
        self._out.write(json.dumps(facts) + "\n")
        self._out.flush()


def main() -> int:
    """Train at once, while the server still starts; then wait for commands."""
    answers = _Answers(_silence_fds())
    client: Any = None
    filled: fill.Filled | None = None
    try:
        answers.stage("import")
        import mlflow
        import mlflow.sklearn

        answers.stage("training")
        trainings = training.train_all()
        answers.done(runs=len(trainings))
        for line in sys.stdin:
            command = json.loads(line)
            now_ms = time.time_ns() // 1_000_000
            if command["do"] == "fill":
                mlflow.set_tracking_uri(command["uri"])
                mlflow.set_registry_uri(command["uri"])
                client = mlflow.MlflowClient(tracking_uri=command["uri"], registry_uri=command["uri"])
                filled = fill.fill(client, trainings, now_ms, answers.stage)
            elif command["do"] == "change" and filled is not None:
                changes.change(client, filled, now_ms, answers.stage)
            else:
                raise ValueError(f"unknown command, or one that came too early: {command['do']}")
            answers.done()
    except Exception as exc:  # noqa: BLE001  (the one place where this process ends: say why to whoever waits)
        traceback.print_exc()
        answers.failed(exc)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
