#!/bin/sh
# Resolves pyproject.toml for every supported Python and writes the two locks: requirements.lock (what the product
# runs on) and requirements-dev.lock (what developers and CI need besides). Exact versions with their hashes, no
# address of any registry. Versions that are locked stay as they are; UPGRADE=1 takes the newest that fit.
set -eu
cd "$(dirname "$0")/.."

compile() {
    # shellcheck disable=SC2086
    .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-strip-extras \
        --custom-compile-command "make lock" ${UPGRADE:+--upgrade} "$@"
}

compile --output-file requirements.lock pyproject.toml
compile --output-file requirements-dev.lock --group dev --constraint requirements.lock
for lock in requirements.lock requirements-dev.lock; do
    echo "$lock: $(grep -c '^[a-zA-Z0-9].*==' "$lock") packages"
done
