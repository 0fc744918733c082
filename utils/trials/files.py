"""Names of the files in a log dir: the one place that says them."""

import re

CONFIG, RESULTS, SAMPLES, LOG = "config.json", "results.json", "samples.jsonl", "log.txt"
ARRAYS, STREAM_ARRAYS = "nll.npz", "stats.npz"
OUTCOMES = (RESULTS, ARRAYS, STREAM_ARRAYS, SAMPLES)
OWN_FILES = (*OUTCOMES, CONFIG, LOG)
"""In the order of their removal: killed in the middle of it, what is left is still a trial of its config.json."""

RUNNING = "running.json"
"""Says who runs, where the file system has no locks."""
CHECKPOINT = "checkpoint-"
"""Begins the name of a stream's checkpoint, a folder; its number follows."""
DOCUMENT_ARRAYS = "checkpoint-document-"
"""Begins the name of a document's arrays in an unfinished diagnosis; its index follows."""
DOCUMENT_NLLS = "checkpoint-nll.f32"
"""The NLL of every token of an unfinished trial of perplexity."""
TOKEN_NLLS = "token_nll_*.f32"
TASK_SAMPLES, LM_EVAL_RESULTS = "samples_*.jsonl", "lm_eval_results.json"
"""Of lm-eval: what it says of each example of a task, and all of its results."""
RUNNING_FILES = (
    f"{CHECKPOINT}{9 * '[0-9]'}*",
    f"{DOCUMENT_ARRAYS}*.npz",
    DOCUMENT_NLLS,
    TOKEN_NLLS,
    TASK_SAMPLES,
    LM_EVAL_RESULTS,
)
"""Patterns of files that experiments leave besides OWN_FILES, removed first."""
MOST_OF_A_NAME = 200  # of the 255 that a file's name may have


def token_nll_name(stream: int) -> str:
    """Name of the file that holds the NLL of every token of a stream."""
    return f"token_nll_{stream:04d}.f32"


def task_samples_name(index: int, task: str) -> str:
    """Name of the file of a task's examples; tasks of which only signs differ have their numbers to tell them apart."""
    return f"samples_{index:04d}_{re.sub(r'[^a-zA-Z0-9_.-]', '_', task)[:MOST_OF_A_NAME]}.jsonl"
