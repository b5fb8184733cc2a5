# clickmill. `make help` lists the targets; every path is relative, so that a folder may hold spaces.
.DEFAULT_GOAL := help
.PHONY: help setup deep check lint types unit test verify bench demo notebooks mlflow airflow airflow-up airflow-down \
        cluster-up cluster-down pack

BIN := .venv/bin
# Two processes, each with a Spark session of its own; the tests of a file stay together, as they share fixtures.
SPLIT := --numprocesses 2 --dist loadfile --no-loadscope-reorder
# Airflow's environment lacks what the other tests' conftest imports, and must not have it.
OF_AIRFLOW := .venv-airflow/bin/pytest --confcutdir tests/airflow tests/airflow
# The demo: two simulated weeks that end with this one. `make demo MODELS=lr,trees` trains these models only, and
# installs no torch where none of them is deep.
DEMO := --conf conf/datasets/simulated.yaml --ds 2026-01-14
MODELS :=
SET_UP := $(if $(MODELS),$(if $(findstring deep,$(MODELS)),deep,setup),deep)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup: ## make .venv from requirements.lock, with the two Delta jars (PYTHON=... names the interpreter)
	@setup/setup.sh

deep: setup ## torch and Horovod into .venv, for the deep models; Horovod is built once, then kept
	@setup/deep.sh

check: setup ## the fast part: lint, format, types, import contracts, unit tests
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint types unit

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types:
	$(BIN)/mypy

unit:
	$(BIN)/pytest $(SPLIT) tests/unit -m "not slow"

test: deep airflow ## check, then all tests but the slow proofs; .ci/run is this
	@$(MAKE) --no-print-directory check
	$(BIN)/pytest $(SPLIT) --ignore=tests/unit -m "not slow"
	$(OF_AIRFLOW) -m "not slow"

verify: deep airflow mlflow ## the slow proofs, and what needs MLflow
	$(BIN)/pytest -m slow
	$(BIN)/pytest tests/unit/test_tracking.py
	$(OF_AIRFLOW) -m slow

bench: deep ## the benchmarks, peers side by side (bench/RESULTS.md says what they gave)
	@for bench in bench/[a-z]*.py; do echo "== $$bench"; $(BIN)/python "$$bench" || exit 1; done

demo: $(SET_UP) ## simulate two weeks, run the whole chain, show the leaderboard and the report's path
	@$(BIN)/clickmill run pipeline $(DEMO)$(if $(MODELS), --models $(MODELS))

NOTEBOOKS := build/notebooks

notebooks: setup ## the notebooks for Jupyter, in build/notebooks
	@mkdir -p "$(NOTEBOOKS)"
	@for source in notebooks/[0-9]*.py; do \
		sed -f notebooks/percent.sed "$$source" | $(BIN)/jupytext --quiet --from py:percent --to ipynb \
			--output "$(NOTEBOOKS)/$$(basename "$$source" .py).ipynb" || exit 1; \
	done

mlflow: setup ## MLflow into .venv, for configs that ask for it (docs/mlflow.md)
	@setup/mlflow.sh

airflow: setup ## make .venv-airflow from airflow/requirements.lock
	@setup/airflow.sh

airflow-up: airflow ## Airflow with the DAGs and a simulated log, on loopback
	@airflow/bin/up

airflow-down: ## stop it
	@airflow/bin/down

cluster-up: setup ## a Spark cluster on loopback: a master and two workers
	@cluster/up

cluster-down: ## stop it
	@cluster/down

pack: setup ## clickmill with all that it needs, for the executors of a cluster: dist/clickmill-environment.tar.gz
	@setup/pack.sh
