# `make demo` and `make test` do all the set-up themselves, each from nothing, again and again.
PYTHON ?= python3
SETUP = $(PYTHON) tools/setup.py

.PHONY: demo test unit build sanitize bench format lint readme clean
demo:      ; @$(SETUP) demo
test:      ; @$(SETUP) test
unit:      ; @$(SETUP) unit
build:     ; @$(SETUP) build
sanitize:  ; @$(SETUP) sanitize
bench:     ; @$(SETUP) bench
format:    ; @$(SETUP) format
lint:      ; @$(SETUP) lint
# What the README shows: the recipe table, the demo's output and its report's picture (after `make demo`; needs Chromium).
readme:    ; @$(PYTHON) tools/refresh_readme.py
clean:     ; rm -rf build build-sanitize
