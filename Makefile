# Every target makes what it needs in .venv first, so that each works as the only command typed on a clean clone
# with Python 3.11 and make. `make` alone lists them.

SEEDS ?= 2000
FIRST ?= 1
MINUTES ?= 10
TEST_ARGS ?=
WORDS ?=
# Twice as many as there are cores: many tests wait for real clusters to elect, boot and heal.
WORKERS ?= $(shell echo $$(( 2 * $$(nproc) )))

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
# What `infrakit` keeps in the demo: relative, because the path of a unix socket must be short.
DEMO_HOME := .demo

# Byte-code makes every command start twice as fast; some machines are set up not to write any.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-check demo-ha demo-ha-check demo-seed demo-seed-check demo-swarm demo-swarm-check test lint unit coverage slow mutations simulate fuzz bench docs docs-nodes clean constraints same-python

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-16s %s\n", $$1, $$2 }'

demo: $(VENV)/.stamp ## run the quickstart; Ctrl-C ends the daemon
	INFRAKIT_HOME=$(DEMO_HOME) $(BIN)/infrakit up examples/quickstart/infrakit.yaml

demo-check: $(VENV)/.stamp ## run it by itself, and check every guarantee of it
	$(BIN)/python examples/quickstart/check.py

demo-ha: $(VENV)/.stamp ## run a cluster of etcd that heals itself; needs etcd
	$(BIN)/python examples/ha/demo.py

demo-ha-check: $(VENV)/.stamp ## break it in four ways, and check every guarantee of it
	$(BIN)/python examples/ha/demo.py --check

demo-seed: $(VENV)/.stamp ## grow a cluster of etcd from one command; needs etcd
	$(BIN)/python examples/seed/seed.py

demo-seed-check: $(VENV)/.stamp ## do so, kill the seed, and check every guarantee of it
	$(BIN)/python examples/seed/seed.py --check

demo-swarm: $(VENV)/.stamp ## run a Docker Swarm that heals itself; needs Docker, root
	$(BIN)/python examples/swarm-docker/demo.py

demo-swarm-check: $(VENV)/.stamp ## break it in ten ways, and check every guarantee of it
	$(BIN)/python examples/swarm-docker/demo.py --check

test: lint unit ## what must hold before each commit: lint, then unit

lint: $(VENV)/.stamp-dev ## style, formatting, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

unit: $(VENV)/.stamp-dev ## the tests; TEST_ARGS='-k pets' for some
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --junitxml=build/tests.xml $(TEST_ARGS)

coverage: $(VENV)/.stamp-dev ## what the unit tests cover; needs Python 3.12
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { \
		echo 'coverage is measured by sys.monitoring: make clean, then make coverage PYTHON=python3.13' >&2; exit 1; }
	rm -f .coverage .coverage.*
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --cov --cov-report= tests/unit $(TEST_ARGS)
	$(BIN)/coverage report --skip-covered
	@echo 'The parts that decide and act, which must stay above 95 %:'
	$(BIN)/coverage report --include='src/infrakit/group/*,src/infrakit/manager/*' --fail-under=95

slow: $(VENV)/.stamp-dev ## the tests that take long: quorums, mutations, crashes
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m slow --junitxml=build/slow.xml $(TEST_ARGS)

mutations: $(VENV)/.stamp-dev ## break each law in the code on purpose; WORDS=gate/ for some
	$(BIN)/python -m tests.mutations $(WORDS)

simulate: $(VENV)/.stamp ## SEEDS=2000 simulated worlds full of faults, from FIRST=1
	$(BIN)/python -m infrakit.simulation --first $(FIRST) --count $(SEEDS)

fuzz: $(VENV)/.stamp-dev ## hostile input, new every time, for MINUTES=10
	$(BIN)/python -m tests.fuzz $(MINUTES)

bench: $(VENV)/.stamp-dev ## measure, and print each figure with its ratio
	$(BIN)/python -m benchmarks

docs: $(VENV)/.stamp-docs ## build the manual into build/docs
	$(BIN)/python docs/generate.py
	$(BIN)/pytest -q -m manual tests/test_manual.py
	$(BIN)/sphinx-build --fail-on-warning --quiet docs build/docs
	@echo 'open build/docs/index.html'

docs-nodes: $(VENV)/.stamp-dev ## type what docs/swarm.md shows; needs Docker, root
	@docker image inspect infrakit-node >/dev/null 2>&1 || PATH="$(CURDIR)/$(BIN):$$PATH" packaging/node-image/build
	$(BIN)/pytest -m nodes --durations=3 tests/test_docs.py

clean: ## end what the demo left, then remove what was made here
	@if [ -d $(DEMO_HOME)/store ]; then $(MAKE) --silent --no-print-directory $(VENV)/.stamp; fi
	@if [ -d $(DEMO_HOME) ]; then \
		python=$(BIN)/python; [ -x $$python ] || python=$(PYTHON); \
		$$python examples/quickstart/clean.py $(DEMO_HOME); fi
	rm -rf $(VENV) $(DEMO_HOME) build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	find src tests benchmarks examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The versions that are tested, with the hashes of all their files; constraints.txt has the versions alone.
COMPILE = uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --constraint constraints.txt pyproject.toml
constraints:
	uv pip compile --quiet --all-extras --group dev --group docs --no-header --no-annotate pyproject.toml -o constraints.txt
	$(COMPILE) --generate-hashes --universal --extra pretty --extra docker -o requirements/run.txt
	$(COMPILE) --generate-hashes --universal --all-extras --group dev -o requirements/dev.txt
	$(COMPILE) --generate-hashes --all-extras --group dev --group docs -o requirements/docs.txt

# The environment, in steps: what running needs, what working on InfraKit needs, what the manual needs.
# The lists are complete, so nothing is resolved: pip would ask for hashes of extras such as coverage[toml].
# uv is used where it is on PATH, pip everywhere else. No argument here may hold a comma: $(call ...) splits there.

define install
	@if command -v uv >/dev/null; then \
		uv pip install --quiet --compile-bytecode --python $(BIN)/python $(1); \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check $(1); \
	fi
endef

# A stamp stands for modules that can be imported: a step that installed nothing leaves no stamp.
define prove
	@$(BIN)/python -c 'import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]' $(1)
	@touch $@
endef

define usable
	test -n '$(PYTHON)' && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		found=$$($(or $(PYTHON),python3) -V 2>/dev/null) || found='not found, or broken'; \
		echo "InfraKit needs Python 3.11 or newer; $(or $(PYTHON),python3) is $$found:" \
			'install it, or type make PYTHON=/path/to/it' >&2; exit 1; }
endef

# A PYTHON of the command line is used, or refused with the reason: never ignored.
same-python:
	@if [ '$(origin PYTHON)' != file ] && [ -e $(VENV)/.stamp ]; then $(usable); \
		there=$$($(BIN)/python -V); [ "$$there" = "$$($(PYTHON) -V)" ] || { \
		echo "$(VENV) has $$there: make clean first, then PYTHON=$(PYTHON) is used" >&2; exit 1; }; fi

$(VENV)/.stamp: pyproject.toml requirements/run.txt | same-python
	@$(usable)
	@echo 'setting up $(VENV) with $(PYTHON)'
	@[ -e $@ ] || rm -rf $(VENV) # what an interrupted set-up has left
	@if command -v uv >/dev/null; then \
		uv venv --quiet --seed --allow-existing --python $(PYTHON) $(VENV); \
	else \
		$(PYTHON) -m venv $(VENV); \
	fi
	$(call install,--no-deps --require-hashes -r requirements/run.txt)
	$(call install,--no-deps -e .)
	@$(BIN)/python -m compileall -q src
	$(call prove,infrakit.cli.main aiohttp jinja2 rich aiodocker)

$(VENV)/.stamp-dev: $(VENV)/.stamp requirements/dev.txt
	@echo 'adding what the tests and linters need'
	$(call install,--no-deps --require-hashes -r requirements/dev.txt)
	$(call prove,infrakit.cli.main aiobotocore build hypothesis importlinter moto mypy pytest xdist)

$(VENV)/.stamp-docs: $(VENV)/.stamp-dev requirements/docs.txt
	@echo 'adding what the manual needs'
	$(call install,--no-deps --require-hashes -r requirements/docs.txt)
	$(call prove,furo myst_parser sphinx sphinx_copybutton)
