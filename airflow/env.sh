# Source it in the checkout's folder: `. airflow/env.sh`. Airflow on this machine alone (SQLite, one user, loopback),
# with clickmill's DAGs and, unless CLICKMILL_* say otherwise, a simulated log. docs/airflow.md has the variables.
[ -x .venv-airflow/bin/airflow ] || echo "airflow/env.sh: no .venv-airflow here; run make airflow in the checkout" >&2
AIRFLOW_HOME="${AIRFLOW_HOME:-$PWD/.airflow}"
case $AIRFLOW_HOME in
    "~" | "~/"*) AIRFLOW_HOME=$HOME${AIRFLOW_HOME#"~"} ;; # (quoted, the shell left it as it is)
    /*) ;;
    *) AIRFLOW_HOME=$PWD/$AIRFLOW_HOME ;;
esac
export AIRFLOW_HOME
export PATH="$PWD/.venv-airflow/bin:$PATH" PYTHONPATH="$PWD/airflow/include${PYTHONPATH:+:$PYTHONPATH}"
export AIRFLOW__CORE__DAGS_FOLDER="$PWD/airflow/dags" AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__CORE__EXECUTOR=LocalExecutor AIRFLOW__CORE__PARALLELISM="${AIRFLOW__CORE__PARALLELISM:-4}"
export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="sqlite:///$AIRFLOW_HOME/airflow.db?timeout=60"
export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False
export AIRFLOW__API__HOST=127.0.0.1 AIRFLOW__API__PORT="${AIRFLOW__API__PORT:-18081}" AIRFLOW__API__WORKERS=1
export AIRFLOW__API__BASE_URL="http://localhost:$AIRFLOW__API__PORT"
export AIRFLOW__CORE__EXECUTION_API_SERVER_URL="$AIRFLOW__API__BASE_URL/execution/"
if [ ! -f "$AIRFLOW_HOME/secret" ]; then
    mkdir -p "$AIRFLOW_HOME"
    (umask 077 && head -c 64 /dev/urandom | base64 | tr -d '\n' >"$AIRFLOW_HOME/secret")
fi
AIRFLOW__API_AUTH__JWT_SECRET=$(cat "$AIRFLOW_HOME/secret")
export AIRFLOW__API_AUTH__JWT_SECRET
if [ -z "${AIRFLOW_CONN_CLICKMILL_SPARK:-}" ]; then
    export AIRFLOW_CONN_CLICKMILL_SPARK='{"conn_type": "spark", "host": "local[2]", "extra": {"deploy-mode": "client"}}'
fi
if [ -z "${CLICKMILL_CONF:-}" ]; then # the simulated log: its task, and days that have passed, so that none starts by itself
    export CLICKMILL_SIMULATE="${CLICKMILL_SIMULATE:-1}" CLICKMILL_END="${CLICKMILL_END:-2026-01-31}"
fi
