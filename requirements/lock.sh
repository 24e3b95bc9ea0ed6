#!/usr/bin/env bash
# Resolves every dependency once (constraints.txt), then writes each lock from that one resolution, with hashes, for
# Python 3.11 and later on every platform, and without the address of any index. Run it as `make lock`.
# `make lock UPGRADE=1` takes the newest versions; otherwise only what pyproject.toml or a .in file changed moves.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
}

compile ${UPGRADE:+--upgrade} --no-annotate --all-extras -o requirements/constraints.txt \
    pyproject.toml requirements/dev.in requirements/build.in

locked=(--generate-hashes --constraint requirements/constraints.txt)
compile "${locked[@]}" -o requirements/build.txt requirements/build.in
compile "${locked[@]}" -o requirements/runtime.txt pyproject.toml
compile "${locked[@]}" --extra demo -o requirements/demo.txt pyproject.toml
compile "${locked[@]}" --extra azure -o requirements/azure.txt pyproject.toml
compile "${locked[@]}" --extra apprise -o requirements/apprise.txt pyproject.toml
compile "${locked[@]}" --extra demo --extra apprise -o requirements/dev.txt pyproject.toml requirements/dev.in requirements/build.in
