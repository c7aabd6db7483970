# `make demo` and `make test` do all the set-up themselves, each from nothing, again and again.
PYTHON ?= python3
SETUP = $(PYTHON) tools/setup.py

.PHONY: demo test build sanitize bench format lint picture clean
demo:      ; @$(SETUP) demo
test:      ; @$(SETUP) test
build:     ; @$(SETUP) build
sanitize:  ; @$(SETUP) sanitize
bench:     ; @$(SETUP) bench
format:    ; clang-format -i $$(git ls-files '*.h' '*.cpp')
lint:      ; @$(SETUP) lint
# The README's picture, after `make demo`; needs Chromium.
picture:   ; chromium --headless --no-sandbox --hide-scrollbars --window-size=1160,1290 --screenshot=docs/first_look.png "file://$(CURDIR)/runs/first_look/report.html"
clean:     ; rm -rf build build-sanitize
