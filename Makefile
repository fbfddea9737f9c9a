# MosaicLoan: `make help` lists the targets.
#
# Variables on the command line, each the same as an environment variable (see .env.example):
#   SOURCE=lendingclub  DATA=folder  MACRO=folder  BORROWERS=20000  AS_OF=2011-06-30  JOB=score  ORDER=id  AMOUNT=5000 TARGET=0.06  SQL='select …'  BATCH=id  MODEL=version  DATASETS='uci_credit_card …'  FULL=1
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup jobs-ready run test test-jobs test-dags test-whole-way up job psql rollback clean bench evaluate backtest lint docs preflight

# What is in .env holds unless the environment or the command line of make says otherwise.
define environment
given="$$(export -p)"; if [ -f .env ]; then set -a; . ./.env; set +a; fi; eval "$$given"; \
$(if $(SOURCE),export MOSAIC_SOURCE='$(SOURCE)';) \
$(if $(DATA),export MOSAIC_DATA='$(DATA)';) \
$(if $(MACRO),export MOSAIC_MACRO='$(MACRO)';) \
$(if $(BORROWERS),export MOSAIC_SIMULATION__BORROWERS='$(BORROWERS)';)
endef

# The first Python that runs and fits: a version manager may leave names on the PATH that do not work.
PYTHON = $(shell for python in $$(type -aP python3.11 python3.12 python3); do \
	"$$python" -c 'import sys; (3, 11) <= sys.version_info[:2] < (3, 13) or sys.exit(1); print(sys.executable)' 2>/dev/null && break; done)
UV = $(shell command -v uv || echo .tools/bin/uv)
# Bytecode is made with the installation: a night starts dozens of Python processes, and where nothing may be written beside
# the packages (PYTHONDONTWRITEBYTECODE, another user's folder) each would compile them again, seconds at a time.
UV_SYNC = UV_HTTP_TIMEOUT=300 UV_PYTHON_DOWNLOADS=never $(UV) sync --frozen --quiet --compile-bytecode --python "$(PYTHON)"
JOBS := .venv/jobs/bin/python
AIRFLOW := .venv/airflow/bin/python

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo; grep -E '^#   SOURCE' $(MAKEFILE_LIST) | sed 's/^# *//; s/^/  variables: /'

setup: ## everything that the other targets need: uv, both environments, pinned jars
	@$(MAKE) preflight
	@$(MAKE) -s -j2 jobs-ready .venv/airflow/.synced

jobs-ready: .venv/jobs/.synced
	@$(environment) $(JOBS) -m conf.source
	@$(environment) PATH="$(CURDIR)/.venv/jobs/bin:$$PATH" $(JOBS) -m dags.launch.jars && $(JOBS) -m dags.launch.packages && $(JOBS) -m spark_jobs.class_archive

run: ## raw files through Airflow to published scores and allocations; again: the next night
	@$(MAKE) preflight NEEDS='data postgres airflow'
	@$(MAKE) setup
	@$(environment) exec $(AIRFLOW) -m dags.launch.run $(if $(AS_OF),--as-of-date '$(AS_OF)')

up: ## Airflow's UI, MLflow's UI and the API until Ctrl-C
	@$(MAKE) preflight NEEDS='postgres airflow mlflow api'
	@$(MAKE) setup
	@$(environment) exec $(AIRFLOW) -m dags.launch.up

job: ## one job by hand, beside Airflow: JOB=score AS_OF=2011-06-30; JOB=dry_run_allocation with ORDER= or AMOUNT= TARGET=; without JOB=, list them
	@$(MAKE) preflight NEEDS='postgres'
	@$(MAKE) setup
	@$(environment) $(JOBS) -m dags.launch.database $(JOBS) -m spark_jobs $(if $(JOB),$(JOB) --as-of-date '$(AS_OF)' \
		$(if $(ORDER),--order-id '$(ORDER)') $(if $(AMOUNT),--amount '$(AMOUNT)') $(if $(TARGET),--target-return '$(TARGET)'),--help)

test: ## every test, in the environment that it belongs to
	@$(MAKE) preflight
	@$(MAKE) -s -j2 jobs-ready .venv/airflow/.synced .venv/jobs/.peers
	@$(MAKE) -k -j2 test-jobs test-dags test-whole-way

WHOLE_WAY := tests/test_whole_way.py tests/spark_jobs/test_publication.py tests/serving

test-jobs:
	@$(JOBS) -m pytest tests --ignore=tests/dags $(WHOLE_WAY:%=--ignore=%)

# Beside test-jobs, which takes as long as both, the one after the other; so their lines wait for their end.
test-dags: PYTEST = $(AIRFLOW) -m pytest tests/dags
test-whole-way: PYTEST = $(JOBS) -m pytest $(WHOLE_WAY)
test-dags test-whole-way:
	@log=$$(mktemp); trap 'cat $$log; rm $$log' EXIT; $(PYTEST) > $$log 2>&1

psql: ## psql as mosaic_reader on the publication; with SQL='select …' prints CSV
	@$(MAKE) preflight NEEDS='postgres' >&2
	@$(MAKE) setup >&2
	@$(environment) $(JOBS) -m dags.launch.database $(JOBS) -m spark_jobs.database_shell $(if $(value SQL),--sql "$$SQL")
export SQL

rollback: ## serve an earlier batch again: BATCH=<batch_id>; without it, list them; MODEL=previous or <version>: score with an earlier model again
	@$(MAKE) preflight NEEDS='$(if $(MODEL),,postgres)'
	@$(MAKE) setup
	@$(environment) $(if $(MODEL),$(JOBS) -m spark_jobs rollback_model --model '$(MODEL)',\
		$(JOBS) -m dags.launch.database $(JOBS) -m spark_jobs rollback_publication $(if $(BATCH),--batch '$(BATCH)'))

lint: ## ruff over all code
	@$(MAKE) setup
	@.venv/jobs/bin/ruff check .

docs: ## write the generated pages: the 80 features
	@$(MAKE) setup
	@$(JOBS) -m features.document

bench: ## time and memory of each nightly task at 20,000 and 200,000 borrowers, of reason codes, allocating and look-ups; takes long
	@$(MAKE) preflight
	@$(MAKE) setup
	@$(environment) exec $(JOBS) -m dags.launch.bench $(if $(BORROWERS),--borrowers '$(BORROWERS)')

evaluate: ## scores held against outcomes and peers, on one page; DATASETS= picks some, SOURCE= DATA= takes your own; FULL=1: its studies too
	@$(MAKE) preflight
	@$(MAKE) setup
	@$(MAKE) -s .venv/jobs/.peers
	@$(environment) exec $(JOBS) -m dags.launch.evaluate $(if $(SOURCE),--source '$(SOURCE)') $(if $(DATASETS),--data-sets $(DATASETS)) \
		$(if $(SOURCE),,$(if $(DATA),--folder '$(DATA)')) $(if $(AS_OF),--as-of-date '$(AS_OF)') $(if $(FULL),--full)

backtest: ## past listings valued and bought as on their day, against what they paid; SOURCE= DATA= takes your own
	@$(MAKE) preflight
	@$(MAKE) setup
	@$(environment) exec $(JOBS) -m dags.launch.backtest $(if $(SOURCE),--source '$(SOURCE)',$(if $(DATA),--folder '$(DATA)')) \
		$(if $(AS_OF),--as-of-date '$(AS_OF)')

clean: ## stop what runs and remove all state; the environments stay
	@$(environment) if [ -x $(JOBS) ]; then exec $(JOBS) -m dags.launch.clean $(if $(SOURCE),--source '$(SOURCE)'); else rm -rf var; fi

preflight:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or 3.12 that runs: install one (Debian, Ubuntu: apt-get install python3 python3-venv)" >&2; exit 1; }
	@$(environment) "$(PYTHON)" dags/launch/preflight.py $(NEEDS)

.tools/bin/uv:
	@echo "fetching uv into .tools"
	@rm -rf .tools; "$(PYTHON)" -m venv .tools || { echo "make: $(PYTHON) cannot make a virtual environment: install its venv module (Debian, Ubuntu: apt-get install python3-venv) or uv" >&2; exit 1; }
	@.tools/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

# The Spark provider of Airflow overwrites files of pyspark, hence two environments out of one lock.
.venv/jobs/.synced: pyproject.toml uv.lock | $(filter .tools/%,$(UV))
	@echo "installing the jobs environment into .venv/jobs"
	@UV_PROJECT_ENVIRONMENT=.venv/jobs $(UV_SYNC) --group jobs --group test
	@touch $@

# What scores are held against: large, and no part of the product.
.venv/jobs/.peers: .venv/jobs/.synced
	@echo "installing the peers of the evaluation into .venv/jobs"
	@UV_PROJECT_ENVIRONMENT=.venv/jobs $(UV_SYNC) --inexact --group jobs --group test --group dev
	@touch $@

.venv/airflow/.synced: pyproject.toml uv.lock | $(filter .tools/%,$(UV))
	@echo "installing the Airflow environment into .venv/airflow"
	@UV_PROJECT_ENVIRONMENT=.venv/airflow $(UV_SYNC) --group airflow --group test
	@touch $@
