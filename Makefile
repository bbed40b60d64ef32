# Everything that a fresh clone needs: `make` lists the targets. Works with GNU Make 3.81 and later.

# Both are read when .venv is made; to change one later, remove .venv first.
# The interpreter that .venv is made from, 3.10 or newer.
PYTHON ?= python3
# Which faiss is installed, gpu or cpu: gpu where an NVIDIA driver answers.
FAISS ?= $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo gpu || echo cpu)
# fast-reid pins torch 1.13.1, so it goes in without its dependencies; setup.cfg names what it needs.
HOST := fastreid==1.4.0

SHELL := bash
VENV := .venv
# test-oldest makes a second virtual environment by this file, with OLDEST set and this VENV.
OLDEST_VENV := .venv-oldest
OLDEST :=
PY := $(VENV)/bin/python
# READY is written when the set-up is complete and holds the path of this checkout; UNFINISHED lies there until then.
READY := $(VENV)/.ready
UNFINISHED := $(VENV)/.unfinished

TOY := configs/Toy/igoas_R18.yml
TOY_LOGS := logs/make_train

# A fast-reid or torch of the user's own environment must not hide what .venv holds. And without its bytecode every
# process compiles torch anew, which takes ten seconds.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

# $(call stop,TEXT) ends a recipe with one line; TEXT holds no comma.
stop = { echo "make: $(strip $(1))" >&2; exit 1; }

# PIP_USER=0: a user-wide `user = true` cannot work in a virtual environment. Every other pip setting applies.
# --no-warn-conflicts: fast-reid's own pins are the conflict, see HOST. --no-compile: Python compiles what it imports.
PIP_INSTALL := PIP_USER=0 PYTHONUNBUFFERED=1 $(PY) -m pip install --disable-pip-version-check --progress-bar off \
    --no-warn-conflicts --no-compile
# The lower bounds of setup.cfg, as pip's constraints: "torch >=2.4, <3" becomes "torch==2.4".
BOUNDS := $(VENV)/oldest.txt
LOWER_BOUNDS := sed -n 's/^ \{4\}\([A-Za-z0-9_-]*\) >=\([0-9.]*\).*/\1==\2/p' setup.cfg
# All that pip says goes to PIP_LOG; on the screen are the big downloads and the number of packages, or the error.
PIP_LOG := $(VENV)/pip.log
SHOWN := 2>&1 | tee -a $(PIP_LOG) | while read -r line; do case "$$line" in \
    (Downloading*[MG]B\)|Using\ cached*[MG]B\)) echo "  $$line";; \
    (Installing\ collected*) set -- $$line; echo "  Installing packages: $$(($$\# - 3))";; \
    esac; done \
    || { tail -n 20 $(PIP_LOG); $(call stop,pip failed; all that it said is in $(PIP_LOG)); }

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## create .venv and install everything (again only when setup.cfg or pyproject.toml changed)

.PHONY: train
train: $(READY) ## set up, then train IGOAS on the generated toy data and compare it with the untrained model
	@rm -rf $(TOY_LOGS)/untrained $(TOY_LOGS)/igoas_R18
	$(PY) tools/train_net.py --config-file $(TOY) --eval-only OUTPUT_DIR $(TOY_LOGS)/untrained
	$(PY) tools/train_net.py --config-file $(TOY) OUTPUT_DIR $(TOY_LOGS)/igoas_R18
	$(PY) tools/summarize.py $(TOY_LOGS)/untrained $(TOY_LOGS)/igoas_R18

.PHONY: lint
lint: $(READY) ## set up, then ruff
	$(PY) -m ruff check .

# A process a core, each of which takes whole files and some GB.
AT_ONCE := -n auto --maxprocesses 8 --dist loadfile
# Python then warns of each text file that is opened without an encoding.
PYTEST := PYTHONWARNDEFAULTENCODING=1 $(PY) -m pytest $(AT_ONCE)

.PHONY: test
test: lint ## set up, then ruff and the tests
	$(PYTEST)

.PHONY: test-all
test-all: lint ## the same with the slow, fault and realdata tests, and on a GPU machine the gpu tests
	$(PYTEST) -m "$(if $(filter gpu,$(FAISS)),,not gpu)"

.PHONY: test-faults
test-faults: lint ## the tests that kill, signal, fill disks, race and read hostile files: half an hour
	$(PYTEST) -m fault

# Which tests, such as tests/modeling: all where it is empty.
TESTS ?=

.PHONY: test-oldest
test-oldest: ## the tests with the oldest packages that setup.cfg admits, in .venv-oldest; TESTS=tests/modeling for some
	@$(MAKE) --no-print-directory setup VENV=$(OLDEST_VENV) OLDEST=yes
	$(OLDEST_VENV)/bin/python -m pytest $(AT_ONCE) $(TESTS)

# .venv cannot be kept when its set-up was cut off, its Python is gone, or it belongs to another place (a moved folder).
KEEP := [ ! -e $(UNFINISHED) ] && $(PY) -c '' 2>/dev/null && \
    { [ ! -e $(READY) ] || [ "$$(cat $(READY))" = "$(CURDIR)" ]; }

.PHONY: unusable
ifneq ($(shell $(KEEP) && echo yes),yes)
$(READY): unusable
endif

$(READY): setup.cfg pyproject.toml
	@$(KEEP) || "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || $(call stop,\
	    Python 3.10 or newer is needed and $(PYTHON) is not ($$("$(PYTHON)" -V 2>&1 | head -n 1)): \
	    name another by make PYTHON=/path/to/python3)
	@$(KEEP) || "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || $(call stop,\
	    $(PYTHON) lacks the venv module: install it (Debian and Ubuntu: apt install python3-venv) \
	    or name another Python by make PYTHON=/path/to/python3)
	@$(KEEP) && echo "Bringing $(VENV) up to date" || { \
	    echo "Creating $(VENV): this takes some minutes, and 6 GB of disk where torch comes with CUDA" && \
	    rm -f $(PY) && rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && "$(PYTHON)" -m venv $(VENV); }
	@touch $(UNFINISHED) && rm -f $@
	@# The two faiss packages share their files: the other one has to go first.
	@! $(PY) -m pip show -q faiss-$(if $(filter gpu,$(FAISS)),cpu,gpu) 2>/dev/null || \
	    $(PY) -m pip uninstall -qq -y faiss-cpu faiss-gpu
	@# The pip of early Python 3.10 cannot install an editable package without setup.py.
	@set -o pipefail; $(PIP_INSTALL) --upgrade pip $(SHOWN)
	@$(if $(OLDEST),$(LOWER_BOUNDS) >$(BOUNDS))
	@set -o pipefail; $(PIP_INSTALL) -e ".[$(FAISS),dev]" $(if $(OLDEST),-c $(BOUNDS)) $(SHOWN)
	@set -o pipefail; $(PIP_INSTALL) --no-deps $(HOST) $(SHOWN)
	@echo "$(CURDIR)" >$@ && rm -f $(UNFINISHED)
	@echo "$(VENV) is ready"
