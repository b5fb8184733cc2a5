#!/bin/sh
# Makes .venv from requirements.lock and puts the two Delta jars into it; a second run finds it done.
# PYTHON=... names the interpreter. Exit 2: the machine lacks something; the message says what to do.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. setup/shared.sh

stamp=$venv/setup-stamp

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || stop "PYTHON=$PYTHON is not a Python 3.11 or newer"
        python=$PYTHON
        return
    fi
    for python in python3 python3.11 python3.12 python3.13; do
        if new_enough "$python"; then return; fi
    done
    stop "no Python 3.11 or newer was found (python3 says: $(python3 --version 2>&1 || true))." \
        "Install one, or name it: make setup PYTHON=/path/to/python3.11"
}

# Spark needs Java 17 or newer with the module jdk.incubator.vector (some small Javas lack it).
java_fits() {
    modules=$("${JAVA_HOME:+$JAVA_HOME/bin/}java" --list-modules 2>/dev/null) || return 1
    major=$(printf '%s\n' "$modules" | sed -n 's/^java\.base@\([0-9]*\).*/\1/p')
    [ "${major:-0}" -ge 17 ] && printf '%s\n' "$modules" | grep -q '^jdk\.incubator\.vector'
}

find_java() {
    if java_fits; then return; fi
    if [ -n "${JAVA_HOME:-}" ]; then
        stop "JAVA_HOME=$JAVA_HOME has no Java 17 or newer with the module jdk.incubator.vector." \
            "Let JAVA_HOME name one, or unset it."
    fi
    if command -v apt-get >/dev/null 2>&1; then
        if [ "$(id -u)" = 0 ]; then install_java; fi
        java_fits || stop "Java 17 or newer (with jdk.incubator.vector) is missing. This installs it:" \
            "    sudo apt-get install -y openjdk-17-jre-headless"
    elif command -v brew >/dev/null 2>&1; then
        stop "Java 17 or newer (with jdk.incubator.vector) is missing. This installs it:" \
            "    brew install openjdk@17   # and let JAVA_HOME name its folder"
    elif command -v dnf >/dev/null 2>&1; then
        stop "Java 17 or newer (with jdk.incubator.vector) is missing. This installs it:" \
            "    sudo dnf install -y java-17-openjdk-headless"
    else
        stop "Java 17 or newer (with jdk.incubator.vector) is missing: install one, and let JAVA_HOME name its folder"
    fi
}

install_java() {
    say "Java is missing: installing openjdk-17-jre-headless"
    apt_install openjdk-17-jre-headless && return
    apt-get install -y -q openjdk-21-jre-headless && return # Debian 13 has no 17
    return 0                                                # what is missing still is said by the caller
}

make_environment() {
    if [ "$(identity "$py" || true)" = "$(identity "$python")" ] && ! was_moved; then return; fi
    say "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" ||
        stop "$python cannot make an environment; on Debian or Ubuntu: sudo apt-get install -y python3-venv"
}

# The scripts of an environment hold its absolute path.
was_moved() { [ -f "$stamp" ] && [ "$(sed -n 3p "$stamp")" != "$PWD" ]; }

# uv installs the lock in a third of pip's time. Its wheel is kept, so that a new .venv needs no network.
get_uv() {
    pin=$(grep '^uv==' requirements.lock)
    from_cache="--no-index --find-links"
    mkdir -p "$cache/wheels"
    # shellcheck disable=SC2086
    pip install -q $from_cache "$cache/wheels" "$pin" 2>/dev/null && return
    # shellcheck disable=SC2086
    pip download -q --no-deps -d "$cache/wheels" "$pin" 2>/dev/null && pip install -q $from_cache "$cache/wheels" "$pin"
}

install_packages() {
    get_uv || say "uv could not be had; pip takes about three times as long"
    install_lock requirements.lock
    if [ -x "$venv/bin/uv" ]; then
        # Every Python worker imports these; where PYTHONDONTWRITEBYTECODE is set each would compile them again.
        uv_install --offline -q --compile-bytecode -r requirements.lock || say "packages are not compiled ahead"
        uv_install --offline -q --no-build-isolation -e .
    else
        pip install -q --no-deps --no-build-isolation -e .
    fi
}

started=$(date +%s)
find_python
find_java
# One line a fact: the files that the environment is made from, the interpreter, the place.
wanted=$(cat requirements.lock pyproject.toml setup/setup.sh setup/shared.sh | cksum && identity "$python" && pwd)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x "$py" ]; then exit 0; fi

make_environment
rm -f "$stamp"
install_packages
say "the Delta jars are in $("$py" -m clickmill.jars)"
"$py" -m clickmill.doctor
say "archiving Spark's classes and compiling the kernels, so that the first job need not"
"$py" -m clickmill.kernels &
"$py" -m clickmill.class_archive
wait $! || say "the kernels are not compiled ahead; the first job compiles them"
printf '%s\n' "$wanted" >"$stamp"
say "done in $(($(date +%s) - started)) s"
