#!/bin/sh
# Resolves requirements.in in an empty environment and writes requirements.lock: exact versions, no
# address of any registry.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.in
"$folder/venv/bin/python" -m pip freeze --all --exclude pip --exclude setuptools --exclude wheel > requirements.lock
echo "lock: $(grep -c '==' requirements.lock) packages"
