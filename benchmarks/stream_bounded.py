"""Are memory and time per token of a stream flat? A million tokens through a tiny model, sampled after each chunk.

The model is a random Llama with byte tokens, made on the spot; the text is a few plays, read again when they run out.
scripts/eval_infinite_ppl.py reads them as for any model, with its checkpoints and with --save_token_nll.

python benchmarks/stream_bounded.py [--device cuda] [--length 1000000]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.measuring.arguments import benchmark_parser
from benchmarks.measuring.machine import save_results
from utils.arguments import whole_number
from utils.program import run_main
from utils.trials.files import SAMPLES

ROOT = Path(__file__).resolve().parents[1]
BEGINNING = "<s>"
LOCAL_BRANCH, GLOBAL_BRANCH = 2048, 10
CHUNK = 4000
PLAYS = 4  # about half a million bytes: the corpus runs out and is shuffled anew
SAVE_STEPS = 10
FEWEST_CHUNKS = 20
MIB = 2**20


def write_model(folder: Path) -> dict[str, int]:
    """Save a random float32 Llama and a tokenizer of single bytes to `folder`; returns the model's sizes."""
    vocabulary = {byte: index for index, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**vocabulary, BEGINNING: len(vocabulary)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGINNING, eos_token=BEGINNING)
    fast.save_pretrained(folder)
    sizes = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(fast),
    }
    torch.manual_seed(0)
    config = LlamaConfig(
        **sizes, max_position_embeddings=CHUNK, bos_token_id=fast.bos_token_id, eos_token_id=fast.eos_token_id
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return sizes


def read_stream(folder: Path, length: int, device: str) -> list[dict[str, Any]]:
    """Read the stream in a process of its own; one line per chunk, as samples.jsonl has them."""
    line = [sys.executable, "scripts/eval_infinite_ppl.py", "--model", folder / "model", "--use_lambda_attention"]
    line += ["--local_branch", LOCAL_BRANCH, "--global_branch", GLOBAL_BRANCH, "--max_length", CHUNK]
    line += ["--dataset", "plays", "--max_data_num", PLAYS, "--streaming_length", length]
    line += ["--save_steps", SAVE_STEPS, "--save_token_nll", "--log_dir", folder / "logs"]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    subprocess.run([str(word) for word in line], cwd=ROOT, env={**os.environ, **hidden}, check=True)
    return [json.loads(text) for text in (folder / "logs" / SAMPLES).read_text().splitlines()]


def memory_growth(chunks: list[dict[str, Any]]) -> dict[str, float]:
    """Memory in MiB after the first tenth of the chunks, which is warm-up, and after the last one; last over first.

    Until then the first checkpoints are written, and the tokenizer comes to hold the words that it remembers.
    """
    memory = np.array([chunk["memory_bytes"] for chunk in chunks]) / MIB
    flat = memory[len(memory) // 10 :]
    found = {
        "first_chunk_mib": memory[0],
        "first_mib": flat[0],
        "last_mib": flat[-1],
        "least_mib": flat.min(),
        "most_mib": flat.max(),
        "growth_mib": flat[-1] - flat[0],
        "last_over_first": flat[-1] / flat[0],
        "most_over_first": flat.max() / flat[0],
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def time_growth(chunks: list[dict[str, Any]]) -> dict[str, float]:
    """Microseconds per token: medians over the chunks of the first and the last tenth; last over first."""
    times = np.array([1e6 * chunk["seconds"] / chunk["tokens"] for chunk in chunks])
    tenth = len(times) // 10
    first, last = float(np.median(times[:tenth])), float(np.median(times[-tenth:]))
    found = {"first_tenth_us": first, "last_tenth_us": last, "last_over_first": last / first}
    return {name: round(value, 4) for name, value in found.items()}


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--length",
        type=whole_number(FEWEST_CHUNKS * CHUNK),
        default=1_000_000,
        metavar="TOKENS",
        help="tokens in the stream (default: %(default)s)",
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = write_model(folder / "model")
        chunks = read_stream(folder, args.length, args.device)
    memory, times = memory_growth(chunks), time_growth(chunks)
    kind = "allocated on the GPU" if args.device == "cuda" else "resident memory"
    tenth = len(chunks) // 10
    print(f"{len(chunks)} chunks of {CHUNK:,} tokens; of memory, the first {tenth} are warm-up")
    print(
        f"{kind}: {memory['first_mib']:.1f} MiB after chunk {tenth + 1}, {memory['last_mib']:.1f} after the last: "
        f"{memory['last_over_first']:.4f} times as much ({memory['growth_mib']:+.2f} MiB); in between "
        f"{memory['least_mib']:.1f}-{memory['most_mib']:.1f}; after the first chunk {memory['first_chunk_mib']:.1f}"
    )
    print(
        f"time per token: {times['first_tenth_us']:.1f} µs in the first tenth, {times['last_tenth_us']:.1f} in the "
        f"last, {times['last_over_first']:.4f} times as much (medians of {tenth} chunks)"
    )
    settings = {"model": sizes, "length": args.length, "chunk": CHUNK, "warm_up_chunks": tenth, "plays": PLAYS}
    branches = {"local_branch": LOCAL_BRANCH, "global_branch": GLOBAL_BRANCH}
    every_tenth = [round(chunk["memory_bytes"] / MIB, 2) for chunk in chunks[::10]]
    results = {**settings, **branches, "memory": memory, "time_per_token": times}
    path = save_results(
        args.out, "stream_bounded", args.device, {**results, "memory_mib_of_every_tenth_chunk": every_tenth}
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    run_main(main)
