# One command per chore; `make` alone names them.

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TYPESCRIPT := tests/js/node_modules/.installed
CLIENT := wagtail_live/static/wagtail_live/wagtail-live.js
CLIENT_BYTES := 4096
EVENTS := wagtail_live/static/wagtail_live/wagtail-live-events.js
EVENTS_BYTES := 5120
CODE := wagtail_live tests example_project

MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help install demo test chaos chaos-plants canary fuzz test-matrix check lint types migrations js-types budget docs fmt clean
.DEFAULT_GOAL := help

help:
	@echo "make install      make .venv with everything in it"
	@echo "make demo         serve the example newsroom and its front end  (PORT= FRONTEND_PORT= DATABASE_URL= REDIS_URL=)"
	@echo "make test         run every test that this machine can run      (ARGS=\"-k cursor\"; REQUIRE_ALL=1 makes skips fail)"
	@echo "make test-matrix  run the suite on the lowest and highest supported versions"
	@echo "make chaos        break servers, network and database around 53 clients (SECONDS=60 DATABASE=sqlite|postgresql|mariadb SEED=1)"
	@echo "make chaos-plants plant one bug after another and see that such a run finds it"
	@echo "make canary       work at random and see that nobody is told what is private    (MINUTES=5 SEED=1)"
	@echo "make fuzz         say what nobody expects by every door; what is new is kept   (MINUTES=10)"
	@echo "make check        lint, types, migrations, JavaScript types, docs, size of the client"
	@echo "make docs         build the documentation into docs/_build/html"
	@echo "make fmt          format the code"
	@echo "make clean        remove what the other commands made, the demo's content too"

install: $(INSTALLED)
	@echo "Everything is installed in $(VENV)"

# The first interpreter that fits; ensurepip is what Debian's python3 lacks without python3-venv.
$(INSTALLED): setup.cfg pyproject.toml
	@if [ ! -x $(BIN)/python ]; then found=; \
	  for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      found="$$python"; break; \
	    fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "Python 3.11 or newer is needed, and none was found. Install one, or name it: make install PYTHON=/path/to/python" >&2; exit 1; \
	  fi; \
	  if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$found cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$("$$found" --version)"; \
	  "$$found" -m venv $(VENV) || exit 1; \
	fi
	@echo "Installing wagtail-live-content and what its development needs; the first time takes a minute or two"
	@$(BIN)/python -m pip install -qq --editable '.[dev,docs]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/python example_project/demo.py

test: $(INSTALLED)
	@$(BIN)/python tests/run.py $(ARGS)

SECONDS ?= 60
DATABASE ?= sqlite
SEED ?= 1
chaos: $(INSTALLED)
	@$(BIN)/python -m tests.chaos.run --database $(DATABASE) --seconds $(SECONDS) --seed $(SEED) $(ARGS)

PLANTS ?= drop swap repeat leak stale-cursor skip-revocation hoard
chaos-plants: $(INSTALLED)
	@failed=0; for plant in $(PLANTS); do \
	  $(BIN)/python -m tests.chaos.run --database $(DATABASE) --seconds 20 --seed 2 --plant $$plant || failed=1; \
	done; exit $$failed

canary: MINUTES ?= 5
canary: $(INSTALLED)
	@SEED=$(SEED) CANARY_SECONDS=$$(($(MINUTES) * 60)) $(BIN)/python -m pytest tests/access/test_canaries.py -q -s -k nobody $(ARGS)

fuzz: MINUTES ?= 10
fuzz: $(INSTALLED)
	@FUZZ_SECONDS=$$(($(MINUTES) * 60)) $(BIN)/python -m pytest tests/fuzz -q -s -k nothing_else $(ARGS)

test-matrix: $(INSTALLED)
	@$(BIN)/tox run $(if $(ARGS),-- $(ARGS))

check: lint types migrations js-types budget docs
	@echo "All checks passed."

lint: $(INSTALLED)
	@echo "Lint and format"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "Not formatted: run make fmt" >&2; exit 1; }

types: $(INSTALLED)
	@echo "Types"
	@$(BIN)/mypy

migrations: $(INSTALLED)
	@echo "Migrations and system checks"
	@$(BIN)/python example_project/manage.py makemigrations --check --dry-run
	@$(BIN)/python example_project/manage.py check --fail-level WARNING

js-types:
	@if command -v npm >/dev/null; then $(MAKE) --silent $(TYPESCRIPT) && echo "JavaScript types" && cd tests/js && npm run --silent types; \
	elif [ -n "$$REQUIRE_ALL" ]; then echo "REQUIRE_ALL is set and this machine lacks Node.js: JavaScript types" >&2; exit 1; \
	else echo "Skipped: JavaScript types, this machine lacks Node.js"; fi

$(TYPESCRIPT): tests/js/package.json
	@npm install --prefix tests/js --no-package-lock --no-audit --no-fund --silent
	@touch $@

budget:
	@size=$$(gzip -9 -c $(CLIENT) | wc -c); echo "Client: $$size of $(CLIENT_BYTES) bytes, gzipped"; test $$size -le $(CLIENT_BYTES)
	@size=$$(gzip -9 -c $(EVENTS) | wc -c); echo "Event stream: $$size of $(EVENTS_BYTES) bytes, gzipped"; test $$size -le $(EVENTS_BYTES)

docs: $(INSTALLED)
	@echo "Documentation"
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

fmt: $(INSTALLED)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

clean:
	@rm -rf $(VENV) .tox .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage *.egg-info build dist \
	  artifacts docs/_build tests/js/node_modules var
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
