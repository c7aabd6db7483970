# `make demo` and `make test` do all the set-up themselves, each from nothing, again and again.
PYTHON ?= python3
SETUP = $(PYTHON) tools/setup.py

.PHONY: demo test unit build wheel sanitize bench format lint docs docs-links notebook readme recipes parity clean
demo:      ; @$(SETUP) demo
test:      ; @$(SETUP) test
unit:      ; @$(SETUP) unit
build:     ; @$(SETUP) build
# dist/schatten-*.whl for every CPython from 3.10, and a trial of it in an empty environment.
wheel:     ; @$(SETUP) wheel
sanitize:  ; @$(SETUP) sanitize
bench:     ; @$(SETUP) bench
format:    ; @$(SETUP) format
lint:      ; @$(SETUP) lint
# build/docs/html, without a warning or a dead link; docs-links asks the addresses outside of it, too (network).
docs:      ; @$(SETUP) docs
docs-links: ; @$(SETUP) docs-links
# Runs examples/quickstart.ipynb and stores what it shows.
notebook:  ; @$(SETUP) notebook
# What the README shows: the recipe table, the demo's output and its report's picture (after `make demo`; needs Chromium).
readme:    ; @$(PYTHON) tools/refresh_readme.py
# docs/recipes: a page per recipe, with the results of `schatten campaign examples/family.toml`; docs/parity.md: every recorded case.
recipes:   ; @$(PYTHON) tools/refresh_recipes.py
parity:    ; @$(PYTHON) tools/refresh_recipes.py --parity
clean:     ; rm -rf build build-sanitize dist
