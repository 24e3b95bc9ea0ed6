"""Scenarios: faults that rules name, planted at a random place and time in random company, and near misses beside them.

They are written from the words of the rules (docs/runbook/), never from their code. frame.py has the words of a
scenario, episode.py plays many of them in one world, mlflow/ has the scenarios of a real MLflow server.
"""
