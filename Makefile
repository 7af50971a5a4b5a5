# The two commands of the README, and the development targets.
.DEFAULT_GOAL := demo
SHELL := /bin/sh
JOBS ?= $(shell nproc)
BUILD := build/release

.PHONY: demo test test-rdma setup setup-guest build bench evaluation docs format clean

setup:
	@packaging/setup.sh

$(BUILD)/build.ninja: | setup
	@cmake --preset release >/dev/null

# What the RDMA tests need for their virtual machine; they are skipped where it can not be had.
setup-guest: setup
	@packaging/setup.sh guest

build: setup $(BUILD)/build.ninja
	@cmake --build --preset release -j $(JOBS)

# Sets everything up and runs the main job: a photograph goes in, its edges come out, computed
# by an unmodified CUDA program on an executor of its own.
demo: build
	$(BUILD)/bin/avec run --local -- $(BUILD)/examples/edges examples/coffee.png edges.png
	@echo "The edges are in edges.png."

# Sets everything up and runs all tests; ends with the test runner's summary.
test: setup-guest build
	@tests/rdma_guest/run.sh --check || echo "avec: so the RDMA tests are skipped"
	@ctest --preset release -j $(JOBS)

# All RDMA tests, those that `make test` leaves out too: tests/rdma_guest/README.md.
test-rdma: setup-guest build
	@tests/rdma_guest/run.sh --check || echo "avec: so the RDMA tests are skipped"
	@ctest --preset release -C Full -L rdma

bench: build
	$(BUILD)/bin/avec bench all --json bench-result.jsonl --plot bench-result.svg

# OpenPose's networks on this machine's processor, on its GPU and offloaded over links of several
# shapes: docs/avec-evaluation.md. Some ten minutes.
evaluation: build
	bench/evaluation.py --within 3600

docs: build
	@cmake --build --preset release --target docs

clean:
	rm -rf build
