"""The sources by name. Adding one is one file here and one line below; tests/contract runs over every entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stocktake.sources.azureml import AzureMl
from stocktake.sources.mlflow_database import MlflowDatabase
from stocktake.sources.mlflow_files import MlflowFiles
from stocktake.sources.mlflow_rest import MlflowRest
from stocktake.sources.protocol import Source

#: Each factory takes the source's own configuration and the clock: `SOURCES["mlflow_rest"](config, now)`.
SOURCES: Mapping[str, Callable[..., Source]] = {
    "azureml": AzureMl,
    "mlflow_files": MlflowFiles,
    "mlflow_rest": MlflowRest,
    "mlflow_database": MlflowDatabase,
}

__all__ = ["SOURCES"]
