# `make demo` and `make test` each do all their set-up: a virtual environment, the packages of requirements.lock, the
# sample.
# Every step leaves a stamp inside .venv once it is whole: a later call starts at once, an interrupted step is redone.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup kernel sample test test-oldest test-newest test-next test-sm90 lint demo figures bench lock clean

PYTHON ?= python3
VENV := .venv
STAMPS := $(VENV)/stamps
SAMPLE := sample/SmolLM2-135M-Instruct/config.json
NATIVE := models/attention/native
KERNEL := $(NATIVE)/libattention.so
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

LOCK := requirements.lock
# pip takes the first for what is installed, the second for what a package's own build needs; it splits them at blanks,
# so they are relative to this folder, and for pip alone.
HELD := PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK)
PIP := python -m pip install --disable-pip-version-check --progress-bar off
PIP_FLAGS_requirements-sample := --no-deps

# A file of tests stays in one process: what it sets up once is used by all of them.
PROCESSES := --numprocesses auto --maxprocesses 4 --dist loadfile

DEMO := logs/demo
DEMO_RUN := deepspeed --log_level critical --num_gpus 1 scripts/eval_ppl_deepspeed.py \
	--model smollm2 --dataset plays --max_data_num 1 --max_length 16384
FIGURES := logs/figures
DIAGNOSIS := python scripts/diagnose.py --model smollm2 --dataset plays --max_data_num 1 --max_length 16384
BENCH ?= cpu
TORCH := 2.13.0
LAMBDA := --use_lambda_attention --local_branch 4096 --global_branch 10 --limit_distance 4096

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## *(.*)/  make \1\t\2/' | expand -t 16

setup: $(STAMPS)/requirements  ## .venv with what the scripts need

kernel: $(KERNEL)  ## the parts of attention on the CPU that are compiled; `make setup` does it too
	@test -e $<

sample: $(SAMPLE)  ## the sample model and text, ready to load

test: $(STAMPS)/requirements-test $(SAMPLE)  ## the test suite; PYTEST_ARGS="-k cache" narrows it
	python -m pytest $(PROCESSES) $(PYTEST_ARGS)

test-oldest:  ## the core's tests with the oldest Transformers of requirements.txt, in an environment of its own
	tests/with_transformers.sh oldest

test-newest:  ## the same with the newest one of requirements.txt
	tests/with_transformers.sh newest

test-next:  ## the same with the newest Transformers there is, where that is beyond requirements.txt
	tests/with_transformers.sh next

# torch for the CPU, beside the Triton that its CUDA build has.
test-sm90:  ## kernels compiled for an H100, and looked at, without one; in an environment of its own
	tests/sm90/run.sh

lint: $(STAMPS)/requirements-test  ## style: ruff, as pyproject.toml sets it
	ruff check .
	ruff format --check .

demo: $(SAMPLE)  ## perplexity at 16,384 tokens, vanilla beside Λ-attention: a table and a picture in logs/demo
	$(DEMO_RUN) --log_dir $(DEMO)/vanilla
	$(DEMO_RUN) $(LAMBDA) --log_dir $(DEMO)/lambda
	python scripts/compare_ppl.py $(DEMO)/vanilla $(DEMO)/lambda --labels vanilla Λ
	python visualization/plot_nll.py $(DEMO)/vanilla $(DEMO)/lambda --labels vanilla Λ --out $(DEMO)/nll.png

figures: $(SAMPLE)  ## why a model fails at length: three factors, vanilla beside Λ-attention, in docs/three_factors.png
	$(DIAGNOSIS) --log_dir $(FIGURES)/vanilla
	$(DIAGNOSIS) $(LAMBDA) --log_dir $(FIGURES)/lambda
	python visualization/three_factors.py $(FIGURES)/vanilla $(FIGURES)/lambda --labels vanilla Λ \
		--out docs/three_factors.png

# What was measured on another processor stays: each has a folder by its name.
bench: $(SAMPLE)  ## speed beside every alternative, about half an hour on 2 cores; BENCH="cuda growth" narrows it
	machine=$$(python benchmarks/machine_name.py --device $(firstword $(BENCH))) && \
		RESULTS=benchmarks/results/$$machine PICTURES=docs/benchmarks/$$machine benchmarks/all.sh $(BENCH)

# Without a constraint: the newest packages that requirements.txt and requirements-test.txt admit, and what those need.
lock:  ## renew requirements.lock: exact versions of every package, the indirect ones too
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/$(PIP) torch==$(TORCH) setuptools wheel \
		-r requirements.txt -r requirements-test.txt
	{ sed -n '/^#/!q;p' $(LOCK); $(VENV)-lock/bin/python -m pip freeze --all --exclude pip | sed 's/+.*//'; } > $(LOCK).part
	mv $(LOCK).part $(LOCK)
	rm -rf $(VENV)-lock

clean:  ## remove .venv, what is compiled or packaged, the prepared sample and the results of demo and figures
	rm -rf $(VENV) $(VENV)-* $(KERNEL) $(KERNEL).part build dist *.egg-info sample $(DEMO) $(FIGURES)

# A machine without a compiler does without it.
$(KERNEL): $(NATIVE)/window_weights.cpp $(NATIVE)/decode_step.cpp $(NATIVE)/rows.cpp $(NATIVE)/numbers.h \
		$(NATIVE)/compiler.flags
	rm -f $@
	$(CXX) @$(lastword $^) $(filter %.cpp,$^) -o $@.part && mv $@.part $@ || \
		echo "$@ is not there: it takes a C++ compiler with OpenMP (CXX=$(CXX)); torch does the same more slowly" >&2

$(STAMPS)/venv:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

# Order-only: packages stay as they are when it is compiled anew.
$(STAMPS)/requirements: $(STAMPS)/venv | $(KERNEL)
$(STAMPS)/requirements-test $(STAMPS)/requirements-sample: $(STAMPS)/requirements
$(STAMPS)/%: %.txt $(LOCK)
	$(HELD) $(PIP) $(PIP_FLAGS_$*) -r $<
	touch $@

# Order-only: the converted sample stays valid when other packages change.
$(SAMPLE): | $(STAMPS)/requirements-sample
	python scripts/prepare_sample.py
