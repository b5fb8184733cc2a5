# What setup.sh and deep.sh share. To be read by them (`. setup/shared.sh`) in the checkout's folder.
# shellcheck shell=sh disable=SC2034

venv=.venv
py=$venv/bin/python
cache="${XDG_CACHE_HOME:-$HOME/.cache}/clickmill"

say() { printf 'set-up: %s\n' "$*"; }
stop() {
    printf 'set-up: %s\n' "$@" >&2
    exit 2
}

# Version and home of an interpreter; an environment and the Python it was made from give the same.
identity() { "$1" -c 'import sys; print(*sys.version_info[:3], sys.base_prefix)' 2>/dev/null; }

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q "$@" && return
    apt-get update -q || true # no package lists yet, as in a fresh container
    apt-get install -y -q "$@"
}

pip() { "$py" -m pip --disable-pip-version-check "$@"; }
uv_install() { "$venv/bin/uv" pip install --python "$py" --no-deps "$@"; }

# Installs the pins of a lock with uv, or with pip where uv could not be had.
install_lock() {
    if [ -x "$venv/bin/uv" ]; then
        # What an earlier set-up fetched is taken without asking the network.
        uv_install --offline -q -r "$1" 2>/dev/null || uv_install -r "$1" || no_packages "$1"
    else
        grep -v '^uv==' "$1" >"$venv/requirements.txt"
        pip install -q --no-deps -r "$venv/requirements.txt" || no_packages "$1"
    fi
}

no_packages() { stop "$1 could not be installed, for the reason above (is there a network?)"; }
