"""A real Alertmanager, of Debian's package, on loopback."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.needs import need_command
from tests.servers.mlflow_server import free_port


@contextmanager
def alertmanager(folder: Path, config: str, port: int | None = None) -> Iterator[str]:
    """The address of an Alertmanager with this configuration."""
    binary = need_command("prometheus-alertmanager", "prometheus-alertmanager")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alertmanager.yml").write_text(config)
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        binary, f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            for _ in range(200):
                try:
                    if httpx.get(url + "/-/ready", trust_env=False).status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.05)  # a process that starts
            else:
                raise AssertionError((folder / "log").read_text())
            yield url
        finally:
            process.terminate()
            process.wait(10)
