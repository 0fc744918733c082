"""What is made smaller so that the pages' commands run in seconds, and what is not run at all.

Everything else of a command is taken as it stands: its path, every flag, every value.
"""

from collections.abc import Callable, Sequence

Shorten = Callable[[int], int]


def over(divisor: int, most: int = 10**9) -> Shorten:
    return lambda value: min(most, max(1, value // divisor))


def at_most(most: int) -> Shorten:
    return lambda value: min(most, value)


# The small model was "pre-trained" on 64 tokens, SmolLM2 on 8,192.
TEXT = over(128)


def prompt(length: int) -> int:
    """Generated prompts have a beginning and a question, which do not get shorter."""
    return 640 + length // 16


SHORTER: dict[str, Shorten] = {
    "--max_length": TEXT,
    "--local_branch": TEXT,
    "--limit_distance": TEXT,
    "--evaluate_positions": TEXT,
    "--runtime_truncation": TEXT,
    "--window": TEXT,
    "--bucket": TEXT,
    "--smoothing": TEXT,
    "--pretraining_length": TEXT,
    "--streaming_length": lambda value: min(1500, max(256, value // 1000)),
    "--start_data_from": lambda value: value if value < 100 else value // 1000,
    "--max_generation_length": at_most(3),
    "--min_new_tokens": at_most(2),
    "--num_samples": at_most(2),
    "--num_queries": at_most(8),
    "--num_hidden": at_most(16),
    "--token-length": prompt,
    "--num-samples": at_most(2),
}
SHORTER_OF: dict[str, dict[str, Shorten]] = {"eval_downstream_tasks": {"--max_length": prompt}}
"""By script, what counts there instead."""
SHORTER_DEFAULTS: dict[str, dict[str, Sequence[int]]] = {
    "eval_infinite_ppl": {"--streaming_length": [1000], "--max_length": [128]},
    "eval_generation": {"--evaluate_positions": [32, 64], "--max_generation_length": [3]},
    "eval_downstream_tasks": {"--num_samples": [2], "--max_generation_length": [3]},
    "diagnose": {"--num_queries": [8], "--num_hidden": [16], "--num_bins": [16], "--num_positions": [8]},
}
"""By script, what a flag that is not given would be too much of."""
PARSED_ONLY: dict[str, str] = {
    "benchmarks/attention_memory.py": "minutes of measuring; tests/benchmarks/ run it",
    "benchmarks/beside_busy.py": "minutes of measuring; tests/benchmarks/ run it",
    "benchmarks/decode_kernel.py": "minutes of measuring; tests/benchmarks/ run it",
    "benchmarks/gpu.py": "minutes of measuring, on a GPU; tests/benchmarks/ run it in tiny sizes",
    "benchmarks/growth.py": "minutes of measuring; tests/benchmarks/ run it",
    "benchmarks/kills.py": "minutes of killing; tests/benchmarks/ run a round",
    "benchmarks/llama_cpp.py": "a compiled package and minutes of measuring; tests/benchmarks/ run it with a stand-in",
    "benchmarks/model_speed.py": "minutes of measuring; tests/benchmarks/ run it",
    "benchmarks/prefill_kernel.py": "minutes of measuring; tests/benchmarks/ run it",
    "benchmarks/stream_bounded.py": "minutes of measuring; tests/benchmarks/ run it",
    "benchmarks/streaming_speed.py": "minutes of measuring; tests/benchmarks/ run it",
    "benchmarks/time_shares.py": "minutes of measuring; tests/benchmarks/ run it",
    "models/get_llama2/convert_llama_weights_to_hf.py": "weights of 7B; tests/models/get_llama2/ run it on small ones",
}
"""Scripts of which the path and the flags are checked and no more, with the reason."""

NOT_RUN: dict[str, str] = {
    "pytest": "`make test` runs the very suite that this test belongs to",
    "ruff": "`make lint` is run on the tree itself, not on a copy without tests",
    "pip": "it installs packages from the index",
}
"""Programs that are found and end well, with the reason why they are not run."""

ELSEWHERE: dict[str, str] = {
    "from lm_infinite import": "the installed package: tests/test_package.py installs the wheel and runs it from there",
    "my_stretch": "several ranks at once: tests/models/attention/sequence does what it shows, over 1 to 4",
}
"""Python blocks with these words are run by another test, which the reason names."""


def shortened(script: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of a script, numbers cut down as the tables above say."""
    rules = SHORTER | SHORTER_OF.get(script, {})
    flag, result = "", []
    for word in arguments:
        if word.startswith("--"):
            flag = word
        rule = rules.get(flag)
        result.append(str(rule(int(word))) if rule and word.isdecimal() else word)
    for name, values in SHORTER_DEFAULTS.get(script, {}).items():
        if name not in arguments and not _is_fixed(name, arguments):
            result += [name, *map(str, values)]
    return result


def _is_fixed(name: str, arguments: Sequence[str]) -> bool:
    """Whether a downstream task takes no such flag: its examples are files', or answers as long as published."""
    reason = {"--num_samples": "--dataset_dir", "--max_generation_length": "--protocol"}
    return reason.get(name) in arguments
