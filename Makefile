# `make demo` and `make test` do all the set-up themselves, each from nothing, again and again.
PYTHON ?= python3
SETUP = $(PYTHON) tools/setup.py

.PHONY: demo test build sanitize bench format lint readme clean
demo:      ; @$(SETUP) demo
test:      ; @$(SETUP) test
build:     ; @$(SETUP) build
sanitize:  ; @$(SETUP) sanitize
bench:     ; @$(SETUP) bench
format:    ; clang-format -i $$(git ls-files '*.h' '*.cpp')
lint:      ; @$(SETUP) lint
# What the README shows: the recipe table, the demo's output and its report's picture (after `make demo`; needs Chromium).
readme:    ; @$(PYTHON) tools/refresh_readme.py
clean:     ; rm -rf build build-sanitize
