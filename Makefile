# Everything a person or CI runs. Python 3.11 or later and make are enough, but where a target says that it wants Docker or
# Node.js.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
# The system's certificates, as pip has them: behind a company's proxy there are no others.
UV := UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=true $(BIN)/uv
INSTALL := $(UV) pip install --quiet --python $(BIN)/python
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
CODE := services/api tests deploy/neon

##@ Use
.PHONY: help
help: ## List these targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: .venv/.runtime ## Serve Parley here: SQLite in var/, no Docker
	@$(BIN)/parley migrate
	@exec $(BIN)/parley serve

.PHONY: migrate
migrate: .venv/.runtime ## Bring the database of DATABASE_URL to the newest schema
	@$(BIN)/parley migrate

##@ Containers (Docker with Compose)
# Another stack: make restore from=... COMPOSE='docker compose -p drill'
COMPOSE ?= docker compose

.PHONY: up
up: ## Build and start the whole stack: PostgreSQL, Redis, the migration, the API
	@$(COMPOSE) up --build --wait || { $(COMPOSE) logs --tail 20 migrate api >&2; exit 1; }
	@echo "Parley is at http://$$($(COMPOSE) port api 8000)"

.PHONY: down
down: ## Stop the stack; its data stay in their volumes
	@$(COMPOSE) --profile '*' down

.PHONY: logs
logs: ## Follow what the stack's services say
	@$(COMPOSE) logs --follow

.PHONY: shell
shell: ## Open a shell in the API's container: parley doctor, parley user create
	@$(COMPOSE) exec api sh

# Elsewhere than in var/backups: to=... What they write is theirs who ask for it; where Docker runs rootless: as=0:0
# By the environment: a folder may be called as it likes.
export to ?= var/backups
export from ?=
as ?= $$(id -u):$$(id -g)
RUN_WITH = export BACKUPS; BACKUPS=$$(realpath -- $(1)); $(COMPOSE) run --rm --user "$(as)"
BACK_UP = $(call RUN_WITH,"$$to")
RESTORE = $(call RUN_WITH,"$$(dirname -- "$$from")")
WHICH = "/backups/$$(basename -- "$$from")"

.PHONY: backup
backup: ## Back the stack up while it serves, into var/backups: make backup keep=7 keeps the newest seven
	@case "$(keep)" in *[!0-9]*|0*) echo 'How many are kept is a number from 1 on: make backup keep=7' >&2; exit 2;; esac
	@mkdir -p -m 0700 -- "$$to"
	@$(BACK_UP) dump
	@$(BACK_UP) backup backup files --to /backups $(if $(keep),--keep $(keep))
	@echo "It is in $$to."

.PHONY: restore
restore: ## Put a backup into an empty stack: make restore from=var/backups/2026-...
	@test -n "$$from" || { echo 'Say which: make restore from=var/backups/2026-...' >&2; exit 2; }
	@$(COMPOSE) build --quiet api
	@$(RESTORE) dump /scripts/restore.sh --look
	@$(RESTORE) backup restore files --from $(WHICH)
	@$(RESTORE) dump /scripts/restore.sh $(WHICH)
	@$(COMPOSE) run --rm migrate
	@echo 'Restored. `make up` starts it.'

##@ Develop
.PHONY: test
test: .venv/.dev services/auth/node_modules/.stamp ## Run every test; starts the servers it needs (Node.js)
	$(BIN)/pytest -n 2

.PHONY: coverage
coverage: .venv/.dev services/auth/node_modules/.stamp ## The same in twice the time, and say which lines no test has reached
	$(BIN)/pytest -n 2 --cov --cov-report=term

.PHONY: test-containers
test-containers: .venv/.dev ## Build the stack, test it from outside over HTTP, remove it (Docker)
	$(BIN)/pytest tests/containers

.PHONY: bench
bench: .venv/.dev ## Measure, and print a table; nothing is asserted: var/bench.json has it too
	@$(BIN)/python -m tests.bench

.PHONY: check
check: .venv/.dev ## Everything read-only that must hold: format, lint, types, floors, migrations, locks
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/mypy deploy/neon/set_up.py
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m tests.migration_lint
	@$(MAKE) --no-print-directory lock-check

.PHONY: check-deploy
check-deploy: .venv/.dev ## Kubernetes, Compose, Dockerfiles: what must hold of them (kubectl or Docker)
	$(BIN)/yamllint --strict $$(git ls-files '*.yml' '*.yaml')
	$(BIN)/hadolint $$(git ls-files '*Dockerfile')
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.test.yml \
		deploy/postgres/archive.yml tests/containers/neon/compose.yml tests/containers/neon/world.yml
	$(BIN)/pytest tests/deploy

.PHONY: fix
fix: .venv/.dev ## Format, and mend what a linter can mend
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

.PHONY: revision
revision: .venv/.dev ## Draft a migration from the models: make revision m="what changes"
	@test -n "$(m)" || { echo 'Say what changes: make revision m="add a column"' >&2; exit 2; }
	@$(BIN)/parley migrate
	@$(BIN)/alembic --config services/api/alembic.ini revision --autogenerate --message "$(m)"

.PHONY: openapi
openapi: .venv/.dev ## Write docs/openapi.json, the API as clients see it
	@$(BIN)/python -m tests.openapi_snapshot

.PHONY: lock
lock: .venv/.python ## Resolve the newest dependencies into the three lock files
	@printf '%s\n' 'uv>=0.13,<0.14' 'uv-build>=0.13,<0.14' | $(COMPILE) --upgrade - --output-file requirements-uv.txt
	@$(COMPILE) --upgrade services/api/pyproject.toml --output-file services/api/requirements.txt
	@$(COMPILE) --upgrade services/api/pyproject.toml --group pyproject.toml:dev \
		--constraints services/api/requirements.txt --output-file requirements-dev.txt

.PHONY: lock-check
lock-check: .venv/.dev
	@work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	cp services/api/requirements.txt "$$work/requirements.txt"; cp requirements-dev.txt "$$work/dev.txt"; \
	$(COMPILE) services/api/pyproject.toml --output-file "$$work/requirements.txt"; \
	$(COMPILE) services/api/pyproject.toml --group pyproject.toml:dev \
		--constraints "$$work/requirements.txt" --output-file "$$work/dev.txt"; \
	diff services/api/requirements.txt "$$work/requirements.txt" && diff requirements-dev.txt "$$work/dev.txt" \
		|| { echo 'The locks do not fit pyproject.toml: run make lock' >&2; exit 1; }

# The environment. A stamp says what .venv holds: `run` needs less than `test`, and neither removes what the other put there.
.venv/.python: requirements-uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Parley needs Python 3.11 or later: make PYTHON=/path/to/python3.13 ...' >&2; exit 1; }
	@echo 'Making .venv (once, about half a minute) ...'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-uv.txt
	@touch $@

.venv/.runtime: .venv/.python services/api/requirements.txt services/api/pyproject.toml
	@echo 'Installing Parley ...'
	@$(INSTALL) --require-hashes --requirement services/api/requirements.txt
	@$(INSTALL) --no-deps --build-constraints requirements-uv.txt --editable services/api
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	@echo 'Installing the development tools ...'
	@$(INSTALL) --require-hashes --requirement requirements-dev.txt
	@touch $@

# Better Auth, which the tests start. `npm ci` removes the stamp with the folder.
services/auth/node_modules/.stamp: services/auth/package.json services/auth/package-lock.json
	@npm --version >/dev/null || { echo 'The tests start Better Auth: they need Node.js 20.19 or later, and npm.' >&2; exit 1; }
	@echo 'Installing Better Auth ...'
	@cd services/auth && npm ci --omit=dev --no-progress --loglevel=error
	@touch $@
