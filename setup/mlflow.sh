#!/bin/sh
# Puts MLflow into .venv, after `make setup`: its small form, and what a store in a sqlite file needs. A second run
# finds it done.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. setup/shared.sh

stamp=$venv/mlflow-stamp
lock=requirements-mlflow.lock

[ -x "$py" ] || stop "$venv is missing: run make setup"
# One line a fact, as in setup.sh. A new .venv has no stamp.
wanted=$(cat $lock setup/mlflow.sh setup/shared.sh | cksum && identity "$py" && pwd)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

rm -f "$stamp"
install_lock $lock
printf '%s\n' "$wanted" >"$stamp"
say "MLflow $(sed -n 's/^mlflow-skinny==//p' $lock) is in $venv"
