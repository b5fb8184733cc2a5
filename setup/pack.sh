#!/bin/sh
# Packs what the executors of a cluster need and a bare Spark lacks, as dist/clickmill-environment.tar.gz: clickmill, the
# packages that it needs, as requirements.lock pins them, its compiled kernels, and the two Delta jars. Not pyspark,
# which the cluster has, nor NCCL, which is for GPUs, nor torch. Unpacked anywhere it is an environment, as long as the
# Python that it was made with lies at the same place there. clickmill's wheel goes to dist/ too.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. setup/shared.sh

venv_pack=0.2.0 # only needed here, and so not in the lock
archive=dist/clickmill-environment.tar.gz

# Installs without asking what else they bring: from what was fetched before, or else from the network.
install() {
    if [ -x "$venv/bin/uv" ]; then
        "$venv/bin/uv" pip install -q --offline --no-deps "$@" 2>/dev/null ||
            "$venv/bin/uv" pip install -q --no-deps "$@"
    else
        pip install -q --no-deps "$@"
    fi
}

started=$(date +%s)
[ -x "$py" ] || stop "$venv is missing: run make setup"
work=$(mktemp -d "${TMPDIR:-/tmp}/clickmill.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
env=$work/environment
site=$env/$("$py" -c 'import sys; print("lib/python%d.%d/site-packages" % sys.version_info[:2])')

say "packing clickmill for the executors of a cluster (about two minutes)"
mkdir -p dist
rm -f dist/clickmill-*.whl
pip wheel -q --no-deps --no-build-isolation -w dist .
"$("$py" -c 'import sys; print(sys._base_executable)')" -m venv --without-pip "$env"
"$py" setup/needed.py requirements.lock >"$work/pins"
install --target "$site" -r "$work/pins" dist/clickmill-*.whl || no_packages requirements.lock
mkdir -p "$env/share/clickmill/jars"
cp "$("$py" -m clickmill.jars)"/delta-*.jar "$env/share/clickmill/jars"
"$env/bin/python" -m clickmill.kernels || say "the kernels are not compiled ahead; each executor's first task does it"

install --target "$work/tools" "venv-pack==$venv_pack" || stop "venv-pack could not be had (is there a network?)"
PYTHONPATH="$work/tools" "$env/bin/python" -m venv_pack -q -f --compress-level 1 -p "$env" -o "$work/packed.tar.gz"
chmod 644 "$work/packed.tar.gz"
mv "$work/packed.tar.gz" "$archive"
say "$archive has $(wc -c <"$archive" | awk '{printf "%d MB", $1 / 1e6}'), done in $(($(date +%s) - started)) s"
