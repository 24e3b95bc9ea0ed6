"""The schema revisions of MLflow's backend database that stocktake can read, and what each one has. Pure.

A revision that is not listed here is never guessed at: a renamed column read as the old one would be a false history.
To add one, look at what its migration does to the tables of mlflow_sql.py, then put it at the end of the list;
tests/integration/test_mlflow_revisions.py reads a database of every revision that the installed MLflow can make.
"""

from __future__ import annotations

from dataclasses import dataclass

from stocktake.core.errors import SourceError, Trouble
from stocktake.core.words import words

#: In the order of MLflow's migrations (they are one line without branches), oldest first.
REVISIONS = words(
    # MLflow 2.0 to 2.22
    "97727af70f4d 3500859a5d39 7f2a7d5fae7d 2d6e25af4d3e acf3f17fdcc7 867495a8f9d4 5b0e9adcef9c 4465047574b1"
    " f5a4f2784254 0584bdc529eb"
    # MLflow 3.0 to 3.17
    " 400f98739977 6953534de441 bda7b8c39065 cbc13b556ace 770bee3ae1dd a1b2c3d4e5f6 de4033877273 1a0cddfcaa16"
    " 534353b11cbc 71994744cf8e 3da73c924c2f bf29a5ff90ea 1bd49d398cd23 b7c8d9e0f1a2 5d2d30f0abce c9d4e5f6a7b8"
    " 2c33131f4dae d3e4f5a6b7c8 d0e1f2a3b4c5 c8d9e0f1a2b3 1b5f0d9ad7c1 e1f2a3b4c5d6 76601a5f987d c3d6457b6d8a"
    " a5b4c3d2e1f0 ae8bbe7743c9 7d34483879f0 da6fb0208061 89d3d66ed43f b7e4c1a90f23 a8b9c0d1e2f3 c1d2e3f4a5b6"
    " c3d9e7f1a2b4 6f8d9c3b2a1e 1971f2d9a75b 17e22815139b b7e2c1a4d9f3 75868b020152 dc11669786a5"
)
OLDEST_MLFLOW, NEWEST_MLFLOW = "2.0", "3.17"


@dataclass(frozen=True, slots=True)
class Schema:
    """One revision."""

    revision: str

    def _since(self, revision: str) -> bool:
        return REVISIONS.index(self.revision) >= REVISIONS.index(revision)

    @property
    def aliases(self) -> bool:
        """Aliases of registered models (2.3)."""
        return self._since("3500859a5d39")

    @property
    def datasets(self) -> bool:
        """Datasets as inputs of runs (2.4)."""
        return self._since("7f2a7d5fae7d")

    @property
    def storage_location(self) -> bool:
        """Where the artifacts of a model version lie, kept even when the version is deleted (2.9)."""
        return self._since("acf3f17fdcc7")

    @property
    def traces(self) -> bool:
        """Traces (2.14)."""
        return self._since("867495a8f9d4")

    @property
    def logged_models(self) -> bool:
        """Logged models, and models as inputs and outputs of runs (3.0)."""
        return self._since("400f98739977")

    @property
    def steps(self) -> bool:
        """The step at which a run made a model (3.0)."""
        return self._since("6953534de441")

    @property
    def client_request_id(self) -> bool:
        """Traces of version 3."""
        return self._since("cbc13b556ace")

    @property
    def webhooks(self) -> bool:
        """Webhooks (3.3)."""
        return self._since("1a0cddfcaa16")

    @property
    def workspaces(self) -> bool:
        """MLflow workspaces (3.10): a column of experiments and of everything in the registry."""
        return self._since("1b5f0d9ad7c1")

    @property
    def trace_columns(self) -> bool:
        """Name, session, tokens and cost of a trace are columns of their own, no longer tags and metadata."""
        return self._since("75868b020152")


def schema(revisions: list[str]) -> Schema:
    """Recognise what `alembic_version` holds. Raises SourceError(UNSUPPORTED) with what to do."""
    if len(revisions) != 1:
        raise SourceError(
            Trouble.UNSUPPORTED,
            f"the backend database has {len(revisions)} schema revisions in alembic_version, not one",
            next_step="Let `mlflow db upgrade` finish what it began, or name the server's address under `uri`.",
        )
    if revisions[0] not in REVISIONS:
        raise SourceError(
            Trouble.UNSUPPORTED,
            f"the backend database has the schema revision {revisions[0]!r}, which this stocktake does not know"
            f" (it knows those of MLflow {OLDEST_MLFLOW} to {NEWEST_MLFLOW})",
            next_step="Of a newer MLflow: upgrade stocktake. Of an older one: `mlflow db upgrade`. Until then, or for a"
            " schema of your own, name the server's address under `uri`: over HTTP every version can be read.",
        )
    return Schema(revisions[0])
