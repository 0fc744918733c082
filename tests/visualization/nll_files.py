"""Synthetic NLL of documents, and trials of streams."""

import numpy as np

from tests.utils.trials.trial_files import long_sums, write_stream_trial
from utils.trials.nll_trials import load_trial


def documents(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.gamma(1.0, 3.0, length) for length in lengths]


def stream_trial(folder, length, streams=1, nll=3.0, **arguments):
    sums = [long_sums(length, seed, nll) for seed in range(streams)]
    return load_trial(write_stream_trial(folder, sums, **arguments))
