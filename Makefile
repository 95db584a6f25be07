# `make demo` and `make test` prepare all they need by themselves, in .venv.
# Another interpreter: `make test PYTHON=python3.12`.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/installed
RUN := "$(CURDIR)/$(VENV)/bin/python"
RECIPE := recipes/Synthetic/qieemo
TURN := results/synthetic/Session5/sentences/wav/Ses05F_impro01/Ses05F_impro01_F000.wav

# No test and no demo may need the network, or more threads than are useful.
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
export OMP_NUM_THREADS ?= $(shell echo $$(($(CORES) < 4 ? $(CORES) : 4)))

# An environment serves one interpreter at one place on the disk; the stamp,
# written last, says which. Any other stamp, or none, starts afresh.
IDENTITY := $(shell $(PYTHON) -c 'import sys; print(sys.version.split()[0])' \
	2>/dev/null) $(CURDIR)
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(IDENTITY))
FRESH := fresh
endif

.PHONY: help demo test fuzz kills lint docs format clean fresh
help:
	@echo 'make demo    train a small model, then classify a file with it'
	@echo 'make test    lint and all tests'
	@echo 'make fuzz    hostile inputs for MINUTES=30, or REPLAY=file'
	@echo 'make kills   KILLS=20 of training, caching, saving and predicting'
	@echo 'make lint    ruff, import-linter, mypy'
	@echo 'make docs    the site of docs/, in build/site'
	@echo 'make format  let ruff mend what it can'
	@echo 'make clean   remove the environment, caches and results'

demo: $(STAMP)
	cd $(RECIPE) && $(RUN) train.py hparams/demo.yaml
	cd $(RECIPE) && $(RUN) classify.py results/demo
	@echo; echo 'The model in pretrained/, trained on people, on a turn of this corpus:'
	"$(CURDIR)/$(VENV)/bin/qieemo" predict \
		$(RECIPE)/$(TURN)
	@echo; echo 'A page for your own recordings: $(VENV)/bin/qieemo demo'

# A worker a core, each with one thread; slow files first, beside the linters.
test: export OMP_NUM_THREADS := 1
test: $(STAMP)
	@$(MAKE) --no-print-directory lint >$(VENV)/lint.log 2>&1 & lint=$$!; \
	$(RUN) -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder; \
	tests=$$?; wait $$lint; lint=$$?; cat $(VENV)/lint.log; \
	exit $$((tests || lint))

# What fails is kept in build/fuzz.
MINUTES ?= 30
fuzz kills: export OMP_NUM_THREADS := 1
fuzz kills: export PYTHONPATH := tests/fuzz:tests/helpers:tests/golden
fuzz: $(STAMP)
	$(RUN) tests/fuzz/campaign.py --minutes $(MINUTES) \
		$(if $(KINDS),--kinds $(KINDS)) $(if $(REPLAY),--replay $(REPLAY))

KILLS ?= 20
kills: $(STAMP)
	$(RUN) tests/fuzz/kills.py $(KILLS)

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	"$(CURDIR)/$(VENV)/bin/lint-imports" --no-logo
	$(RUN) -m mypy

# The theme advertises its successor on every build otherwise.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(STAMP)
	$(RUN) -m mkdocs build --strict --quiet
	@echo 'Open build/site/index.html.'

format: $(STAMP)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(STAMP): setup.py pyproject.toml qieemo_sb/__init__.py $(FRESH)
	@echo 'Installing into $(VENV): some minutes, once ...'
	@rm -f $@
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(MAKE) --no-print-directory fresh
	@$(RUN) -m pip install -qq --disable-pip-version-check \
		--editable '.[dev]'
	@echo '$(IDENTITY)' >$@

fresh:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo '$(PYTHON) is missing or older than 3.10.' \
			'Name another: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo '$(PYTHON) cannot make virtual environments.' \
			'On Debian or Ubuntu: apt install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache \
		.mypy_cache .import_linter_cache
	rm -rf recipes/*/*/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
