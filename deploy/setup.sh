#!/bin/sh
# Makes .venv from requirements.lock, and only when the lock, pyproject.toml or the Python changed.
# Takes the machine's own pip configuration as it is. Safe to call before every command: when there is
# nothing to do it returns at once.
set -eu
cd "$(dirname "$0")/.."

is_root() { [ "$(id -u)" -eq 0 ]; }
stop() { printf '\nerror: %s\nwhat to do: %s\n' "$1" "$2" >&2; exit 1; }
. deploy/again.sh

python=""
for name in python3.11 python3; do
    if command -v "$name" >/dev/null 2>&1 &&
        "$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        python=$name
        break
    fi
done
[ -n "$python" ] || stop "Python 3.11 was not found (looked for python3.11 and python3)" \
    "install Python 3.11 (Debian 12: apt-get install python3 python3-venv) and call make again"

# The project's folder is part of the stamp: scripts in a .venv hold its absolute path.
stamp=.venv/.smf-stamp
want=$({ cat requirements.lock pyproject.toml; "$python" --version; pwd; } | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/python ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
    exit 0
fi

if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    if is_root && command -v apt-get >/dev/null 2>&1; then
        echo "setup: installing the Debian package python3-venv"
        again apt_install python3-venv
    else
        stop "$python has no venv module" "as root: apt-get install python3-venv; then call make again"
    fi
fi

if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    rm -rf .venv
    "$python" -m venv .venv
fi
echo "setup: installing $(grep -c '==' requirements.lock) pinned packages into .venv (first time: a few minutes)"
# What came before a download was cut off is in pip's cache, and is not fetched again.
again .venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements.lock
again .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
echo "$want" > "$stamp"
echo "setup: done"
