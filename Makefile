# `make demo` and `make test` do all the set-up themselves, each from nothing, again and again.
PYTHON ?= python3
SETUP = $(PYTHON) tools/setup.py

.PHONY: demo test build sanitize bench format lint clean
demo:      ; @$(SETUP) demo
test:      ; @$(SETUP) test
build:     ; @$(SETUP) build
sanitize:  ; @$(SETUP) sanitize
bench:     ; @$(SETUP) bench
format:    ; clang-format -i $$(git ls-files '*.h' '*.cpp')
lint:      ; @$(SETUP) lint
clean:     ; rm -rf build build-sanitize
