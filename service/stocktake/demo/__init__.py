"""The demonstration: a real MLflow server on loopback with a small team at work, so that there is something to watch.

It never touches a server or a database of yours: both are made under `demo/` in the data folder and end with us.
"""
