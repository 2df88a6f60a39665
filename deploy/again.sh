# Read by the other scripts: downloads over a line that may break.

# Runs a command up to three times, with a pause; the last failure is the caller's.
again() {
    "$@" && return
    echo "failed, trying again in 5 s: $*" >&2
    sleep 5
    "$@" && return
    echo "failed, trying again in 20 s: $*" >&2
    sleep 20
    "$@"
}

# Installs Debian packages, with the lists as they are now: a mirror does not keep what an old list names.
apt_install() {
    apt-get update -qq -o Acquire::Retries=3 &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" >/dev/null
}
