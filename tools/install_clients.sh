#!/usr/bin/env bash
# Installs the real client programs that tests/interop runs against the server.
#
#   tools/install_clients.sh [DIRECTORY]
#
# DIRECTORY (default ${XDG_CACHE_HOME:-$HOME/.cache}/cargo-distbuild/test-tools) receives one Python
# environment a client, because their requirements clash with the project's and with each other's,
# and bin/ for Go programs. Debian packages are installed only when run as root. What is already
# there is left alone, so a second run takes a second. Ends with 1, naming what is missing, when
# something could not be installed. bb-clientd is in no package registry: BB_CLIENTD names it.
set -uo pipefail

directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/cargo-distbuild/test-tools}
python=${PYTHON:-python3}
buildstream=BuildStream==2.8.1
buildgrid=buildgrid==0.4.4
grpcurl=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
toxiproxy=github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0
# bazel with the repositories that its C++ rules load; a static shell and a sandbox for BuildStream.
packages=(bazel-bootstrap bazel-rules-java bazel-rules-proto bazel-skylib bazel-platforms
    busybox-static bubblewrap)

mkdir -p "$directory/logs" || exit 1
directory=$(cd "$directory" && pwd)
# Two runs at once would install into one half-made environment.
exec 9>"$directory/.lock"
flock 9

missing_packages() {
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            echo "$package"
    done
}

install_packages() {
    mapfile -t wanted < <(missing_packages)
    [ ${#wanted[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "not root on Debian, so not installed: ${wanted[*]}"
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # Another installation on this machine may hold the lock; wait for it instead of failing.
    apt-get -qq -o DPkg::Lock::Timeout=600 update &&
        apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${wanted[@]}"
}

# install_environment NAME REQUIREMENT PROGRAM: NAME/bin/PROGRAM answers --help afterwards.
install_environment() {
    local home=$directory/$1 requirement=$2 program=$3
    if [ "$(cat "$home/.installed" 2>/dev/null)" = "$requirement" ] &&
        [ -x "$home/bin/$program" ] && "$home/bin/python" -c '' 2>/dev/null; then
        return 0
    fi
    rm -rf "$home"
    "$python" -m venv "$home" &&
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check "$requirement" &&
        "$home/bin/$program" --help >/dev/null &&
        echo "$requirement" >"$home/.installed"
}

# install_go NAME PACKAGE: the Go program PACKAGE is bin/NAME.
install_go() {
    local program=$directory/bin/$1 package=$2 go built
    [ "$(cat "$directory/bin/.$1" 2>/dev/null)" = "$package" ] && [ -x "$program" ] && return 0
    go=$(command -v go || echo /usr/local/go/bin/go)
    built=$directory/bin/.build-$1
    mkdir -p "$built" && GOBIN=$built "$go" install "$package" &&
        mv "$built"/* "$program" && rmdir "$built" && echo "$package" >"$directory/bin/.$1"
}

names=(packages buildstream buildgrid grpcurl toxiproxy-server)
processes=()
start() {
    # Without the lock's descriptor: a daemon that a package starts must not keep it.
    "${@:2}" >"$directory/logs/$1.log" 2>&1 9>&- &
    processes+=($!)
}
start packages install_packages
start buildstream install_environment buildstream "$buildstream" bst
start buildgrid install_environment buildgrid "$buildgrid" bgd
start grpcurl install_go grpcurl "$grpcurl"
start toxiproxy-server install_go toxiproxy-server "$toxiproxy"

failed=0
for index in "${!names[@]}"; do
    if wait "${processes[$index]}"; then
        echo "${names[$index]}: ready"
    else
        echo "${names[$index]}: NOT installed, log: $directory/logs/${names[$index]}.log"
        tail -n 5 "$directory/logs/${names[$index]}.log"
        failed=1
    fi
done
exit "$failed"
