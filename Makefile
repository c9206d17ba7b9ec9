# make repro: the default experiment, from nothing to report/index.html.   make test: every check of this repository.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
SHELL := /bin/bash
# Every stage is a process of its own: without compiled files each would compile torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: repro test unit pipeline check docs setup lock

repro: setup
	@echo "repro: running the stages that changed; the default experiment takes about 70 minutes on 2 cores from nothing"
	dvc repro
	@echo "repro: done; open report/index.html"

test: SETUP := browser
test: setup check
	@echo "test: unit tests, and the smoke experiment end to end in a clean clone; about 10 minutes on 2 cores"
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target unit pipeline

# Both share the cores, so no thread may spin while it waits for another. Tests that call make are not part of this one.
unit:
	MAKEFLAGS= OMP_NUM_THREADS=1 python -m pytest -n 2 -m "not slow and not attack"

pipeline:
	MAKEFLAGS= OMP_WAIT_POLICY=PASSIVE python -m pytest tests/test_pipeline.py

check: setup
	ruff check .
	ruff format --check .
	mypy

# The documentation site, in site/; broken links and pages without a place in the navigation are errors.
docs: setup
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict

setup:
	@scripts/setup $(SETUP)

# Pin the newest versions that pyproject.toml allows.
lock: setup
	uv pip compile --quiet --universal --upgrade --python-version 3.11 --all-extras --generate-hashes \
		--no-header --no-annotate --no-emit-index-url pyproject.toml --output-file requirements.lock
