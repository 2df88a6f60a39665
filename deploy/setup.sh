#!/bin/sh
# Makes .venv from the locks, and only when a lock, pyproject.toml or the Python changed.
#
#     sh deploy/setup.sh        what the product runs on: requirements.lock
#     sh deploy/setup.sh dev    what checks and tests need as well: requirements-dev.lock
#
# SMF_PYTHON names another Python than the distribution's, SMF_VENV another folder than .venv.
# Takes the machine's own pip configuration as it is. Safe to call before every command: when there is
# nothing to do it returns at once.
set -eu
cd "$(dirname "$0")/.."

is_root() { [ "$(id -u)" -eq 0 ]; }
stop() { printf '\nerror: %s\nwhat to do: %s\n' "$1" "$2" >&2; exit 1; }
fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }
. deploy/again.sh

python=""
# The distribution's own first (Debian 12: 3.11, Debian 13: 3.13): its venv module and fixes come with it.
for name in ${SMF_PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if command -v "$name" >/dev/null 2>&1 && fits "$name"; then
        python=$name
        break
    fi
done
[ -n "$python" ] || stop "no Python 3.11 to 3.13 was found (looked for ${SMF_PYTHON:-python3 and python3.11 to 3.13})" \
    "install one (Debian 12 and 13: apt-get install python3 python3-venv) and call make again"

venv=${SMF_VENV:-.venv}
# The project's folder is part of the stamp: scripts in a .venv hold its absolute path.
stamp_of() { { cat "$@" pyproject.toml; "$python" --version; pwd; } | sha256sum | cut -d' ' -f1; }
case "${1:-}" in
"") locks="requirements.lock" stamp=$venv/.smf-stamp ;;
dev) locks="requirements.lock requirements-dev.lock" stamp=$venv/.smf-stamp-dev ;;
*) stop "unknown argument '$1'" "say 'dev' or nothing" ;;
esac
# shellcheck disable=SC2086
want=$(stamp_of $locks)
if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
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

version() { "$1" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null; }
if [ "$(version "$venv/bin/python")" != "$(version "$python")" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
rm -f "$venv/.smf-stamp" "$venv/.smf-stamp-dev"
# shellcheck disable=SC2086
count=$(cat $locks | grep -o '^[a-zA-Z0-9._-]*.*==' | sort -u | wc -l)
echo "setup: installing $count pinned packages into $venv (first time: a few minutes)"
# What came before a download was cut off is in pip's cache, and is not fetched again.
# shellcheck disable=SC2046,SC2086
again "$venv/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes $(printf -- '-r %s ' $locks)
again "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-deps --editable .
echo "$want" > "$stamp"
stamp_of requirements.lock > "$venv/.smf-stamp"
echo "setup: done"
