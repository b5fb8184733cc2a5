#!/bin/sh
# Makes .venv-airflow from airflow/requirements.lock; a second run finds it done. Airflow has an environment of its
# own, since its Spark provider brings files of pyspark's that are not Spark. Wants .venv: `make setup` comes before.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

venv=.venv-airflow
stamp=$venv/setup-stamp
lock=airflow/requirements.lock

identity() { "$1" -c 'import sys; print(*sys.version_info[:3], sys.base_prefix)'; }

# One line a fact, as in setup.sh: what it is made from, the interpreter, the place (scripts hold absolute paths).
wanted=$(cat "$lock" setup/airflow.sh | cksum && identity .venv/bin/python && pwd)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

started=$(date +%s)
echo "set-up: making $venv"
"$(.venv/bin/python -c 'import sys; print(sys._base_executable)')" -m venv --clear "$venv"
if [ -x .venv/bin/uv ]; then
    install() { .venv/bin/uv pip install --python "$venv/bin/python" --no-deps "$@" -r "$lock"; }
    # What an earlier set-up fetched is taken without asking the network.
    install -q --offline 2>/dev/null || install || exit 2
else
    "$venv/bin/python" -m pip --disable-pip-version-check install -q --no-deps -r "$lock" || exit 2
fi
printf '%s\n' "$wanted" >"$stamp"
echo "set-up: $venv done in $(($(date +%s) - started)) s"
