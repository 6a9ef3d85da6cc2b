# make run: set up and run the pipeline.  make test: set up and run the tests.  A fresh machine needs nothing else.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
SET_UP := .venv/.set-up

# Columns of `make exp`: two metrics, and the params that differ but prompts, which would not fit a terminal.
COLUMNS_OF_EXP := Experiment$$|(dataset|filter|curate|model|concept|train|render|evaluate)\.(?!prompts)|(test_fall_percent|image_similarity_gap_closed)$$

.PHONY: help run dvc exp compare verify test test-slow lint bench
help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(SET_UP)  ## run the pipeline, from the download to report/index.html
	python -m stages.common.watch || dvc repro -s -f download
	dvc repro

dvc: $(SET_UP)  ## run dvc $(ARGS), unless data/raw has files of yours: some commands would delete them
	python -m stages.common.watch || dvc repro -s -f download
	dvc $(ARGS)

exp: $(SET_UP)  ## list the experiments, the best first: params that differ, and the main metrics
	@dvc exp show --only-changed --param-deps --hide-workspace --hide-failed --hide-queued --precision 4 \
	  --sort-by image_similarity_gap_closed --sort-order desc --drop '^(?!$(COLUMNS_OF_EXP))'

compare: $(SET_UP)  ## show the experiments side by side on one page, report/compare.html
	python -m stages.comparison.compare

verify: $(SET_UP)  ## rerun the committed params in a temporary folder and compare every hash with dvc.lock
	python -m stages.comparison.verify

# One process more than cores, because some tests wait for signals, locks and timeouts.
PYTEST = pytest -n $(shell expr $$(OMP_NUM_THREADS= nproc) + 1) --dist loadscope --no-loadscope-reorder
test: $(SET_UP)  ## run all tests but the slow ones
	$(PYTEST)

test-slow: $(SET_UP)  ## run the slow tests
	$(PYTEST) -m slow

lint: $(SET_UP)  ## check style and formatting
	ruff check .
	ruff format --check .

bench: $(SET_UP)  ## measure the starter on this machine
	python -m bench.starter

$(SET_UP): pyproject.toml constraints.txt versions.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/pip install -q -c constraints.txt -e ".[dev]"
	touch $@
