#!/bin/sh
# Debian packages that only the tests need: Chromium for the browser tests, debootstrap for a TimescaleDB.
# As root they are installed when missing; otherwise it says what stays out (the tests then say so as well).
set -eu
cd "$(dirname "$0")/.."
. deploy/again.sh

missing=""
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
if [ -z "${SMF_TEST_DATABASE_URL:-}" ] && ! command -v debootstrap >/dev/null 2>&1; then
    missing="$missing debootstrap"
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "test tools: installing the Debian packages$missing"
    # shellcheck disable=SC2086
    again apt_install $missing
else
    echo "test tools: not installed:$missing (as root: apt-get install$missing); their tests will not run"
fi
