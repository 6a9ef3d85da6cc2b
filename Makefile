# make run: set up, then the whole pipeline.  make test: set up, then the tests.  Nothing else is needed on a fresh machine.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
SET_UP := .venv/.set-up

.PHONY: help run test lint bench
help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

run: $(SET_UP)  ## dvc repro: from the download to report/index.html
	dvc repro

test: $(SET_UP)  ## every test
	pytest -n auto

lint: $(SET_UP)  ## what ruff has to say
	ruff check .
	ruff format --check .

bench: $(SET_UP)  ## figures of the built-in model, on this machine
	python -m bench.starter

$(SET_UP): pyproject.toml constraints.txt versions.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/pip install -q -c constraints.txt -e ".[dev]"
	touch $@
