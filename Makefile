# `make help` lists the targets. Everything happens in .venv; nothing is installed outside of the checkout
# except by `make install`.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
VERSION := 'import sys; print("%d.%d" % sys.version_info[:2])'
.DEFAULT_GOAL := help

.PHONY: help setup same-python mf4 demo fleet city test test-full test-trixie check format lock rig fuzz bench install install-dispatch uninstall clean

help:           ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: same-python .venv/ready      ## virtual environment with the locked dependencies (quick when it is there)

# An environment keeps the Python that it was made with: another one that is asked for gets a sentence, not silence.
same-python:
ifeq ($(origin PYTHON),command line)
	@command -v "$(PYTHON)" >/dev/null || { echo "PYTHON=$(PYTHON): there is no such program here."; exit 1; }
	@test ! -x $(BIN)/python || \
	    test "$$($(BIN)/python -c $(VERSION))" = "$$("$(PYTHON)" -c $(VERSION) 2>/dev/null)" || \
	    { echo ".venv is made with Python $$($(BIN)/python -c $(VERSION)); \`make clean\` first to make it with $(PYTHON)."; exit 1; }
endif

.venv/ready: requirements-dev.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "Python 3.11 or newer is needed, and \`$(PYTHON)\` is none. Try make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "python3-venv is missing: sudo apt install python3-venv"; exit 1; }
	@echo "Installing the locked dependencies into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

mf4: setup      ## also what reads MF4 logs (200 MB); the tests for it skip without
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-mf4.lock

demo: setup     ## a shift in Boston, end to end, no hardware; ARGS="--for 60 --speed 10 --json out.json"
	@$(BIN)/python -m hil demo $(ARGS)

fleet: setup    ## the same with three vehicles, one broker and one dispatch
	@$(BIN)/python -m hil demo --units 3 $(ARGS)

city: setup     ## a city live at 30 times the speed of life, with dispatch's page in the browser; ARGS="--units 12"
	@$(BIN)/python -m hil city --live $(ARGS)

# More than one a core: most of the time a test waits for a broker, a browser or a kernel.
test: setup     ## the whole quick test suite
	@$(BIN)/python -m pytest -n $$(( $$(nproc) + 2 )) --dist worksteal $(ARGS)

test-full: mf4      ## also the slow campaigns: power cuts, soak, broker restarts
	@HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -n auto -m "slow or not slow" $(ARGS)

test-trixie:    ## the two commands above in a Debian 13 of its own (root, debootstrap); ARGS="demo" for one of them
	@.ci/trixie $(ARGS)

check: setup    ## lint, format, types, import laws
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: setup   ## let ruff format and mend what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock:           ## resolve the dependencies anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -o requirements.lock pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --extra dev -o requirements-dev.lock pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --extra panel -c requirements-dev.lock -o requirements-panel.lock pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --group build -o requirements-build.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --extra mf4 -c requirements-dev.lock -o requirements-mf4.lock pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --extra dispatch -c requirements-dev.lock -o requirements-dispatch.lock pyproject.toml

rig: setup      ## build, once, the Linux kernel that runs as a process for the kernel rig
	@$(BIN)/python -m hil.kernel.build $(ARGS)

fuzz: setup      ## 20,000 mangled inputs of receivers; ARGS="100000 7" for another number and seed
	@$(BIN)/python -m hil.fuzz_receiver $(ARGS)

bench: setup    ## speed and cost, each as a ratio against a peer
	@$(BIN)/python -m hil bench $(ARGS)

install:        ## install the agent as a service on this computer (root); PANEL=1 with the crew's touch page
	@systemd/install.sh install

install-dispatch:   ## install the service on a computer at dispatch (root)
	@systemd/install-dispatch.sh install

uninstall:      ## remove the service; data and configuration stay
	@systemd/install.sh uninstall

clean:          ## remove what was made here
	rm -rf .venv .trixie .rig .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
