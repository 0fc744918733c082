"""Imported before a run begins, for each to begin at once: all that the scripts import, and that takes seconds."""

import deepspeed  # noqa: F401

import scripts.diagnosis.experiment
import scripts.downstream.experiment
import scripts.generation.experiment
import scripts.harness.experiment
import scripts.perplexity.experiment
import scripts.streaming.experiment  # noqa: F401
