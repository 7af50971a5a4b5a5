# The two commands of the README, and the development targets.
.DEFAULT_GOAL := demo
SHELL := /bin/sh
JOBS ?= $(shell nproc)
BUILD := build/release

.PHONY: demo test setup build bench docs format clean

setup:
	@packaging/setup.sh

$(BUILD)/build.ninja: | setup
	@cmake --preset release >/dev/null

build: setup $(BUILD)/build.ninja
	@cmake --build --preset release -j $(JOBS)

# Sets everything up and runs the main job: a photograph goes in, its edges come out, computed
# by an unmodified CUDA program on an executor of its own.
demo: build
	$(BUILD)/bin/avec run --local -- $(BUILD)/examples/edges examples/coffee.png edges.png
	@echo "The edges are in edges.png."

# Sets everything up and runs all tests; ends with the test runner's summary.
test: build
	@ctest --preset release -j $(JOBS)

bench: build
	$(BUILD)/bin/avec_bench --json bench-result.jsonl

docs: build
	@cmake --build --preset release --target docs

clean:
	rm -rf build
