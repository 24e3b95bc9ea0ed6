"""stocktake: drift and inventory of MLflow tracking servers and Azure Machine Learning workspaces."""

__version__ = "0.1.0"
