# make run: set up and run the pipeline.  make test: set up and run the tests.  A fresh machine needs nothing else.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
SET_UP := .venv/.set-up

.PHONY: help run test test-slow lint bench
help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

run: $(SET_UP)  ## run the pipeline, from the download to report/index.html
	python -m stages.common.watch || dvc repro -s -f download
	dvc repro

test: $(SET_UP)  ## run the tests but the slow ones
	pytest -n auto --dist loadscope --no-loadscope-reorder

test-slow: $(SET_UP)  ## run the tests marked slow
	pytest -m slow -n auto --dist loadscope --no-loadscope-reorder

lint: $(SET_UP)  ## check style and formatting
	ruff check .
	ruff format --check .

bench: $(SET_UP)  ## measure the starter on this machine
	python -m bench.starter

$(SET_UP): pyproject.toml constraints.txt versions.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/pip install -q -c constraints.txt -e ".[dev]"
	touch $@
