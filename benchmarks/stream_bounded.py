"""Are memory and time per token of a stream flat? A million tokens through a tiny model, sampled after each chunk.

The model is a random Llama with byte tokens, made on the spot; the text is a few plays, read again when they run out.
scripts/eval_infinite_ppl.py reads them as for any model, with its checkpoints and with --save_token_nll.

python benchmarks/stream_bounded.py [--device cuda] [--length 1000000]
"""

import argparse
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

from benchmarks.machine import save_results

ROOT = Path(__file__).resolve().parents[1]
BEGINNING = "<s>"
LOCAL_BRANCH, GLOBAL_BRANCH = 2048, 10
CHUNK = 4096
PLAYS = 4  # about half a million bytes: the corpus runs out and is shuffled anew
SAVE_STEPS = 10
WARM_UP = SAVE_STEPS + 1  # chunks: the next one comes after the first checkpoint, when all code has run once
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
    return [json.loads(text) for text in (folder / "logs" / "samples.jsonl").read_text().splitlines()]


def memory_growth(chunks: list[dict[str, Any]]) -> dict[str, float]:
    """First and last chunk after the warm-up, the range between, in MiB, and last over first."""
    memory = np.array([chunk["memory_bytes"] for chunk in chunks[WARM_UP:]]) / MIB
    first, last = memory[0], memory[-1]
    return {
        "first_mib": round(first, 2),
        "last_mib": round(last, 2),
        "least_mib": round(memory.min(), 2),
        "most_mib": round(memory.max(), 2),
        "growth_mib": round(last - first, 2),
        "last_over_first": round(last / first, 4),
        "most_over_first": round(memory.max() / first, 4),
    }


def time_growth(chunks: list[dict[str, Any]]) -> dict[str, float]:
    """Microseconds per token: medians over the chunks of the first tenth after the warm-up and of the last tenth."""
    chunks = chunks[WARM_UP:]
    times = np.array([1e6 * chunk["seconds"] / chunk["tokens"] for chunk in chunks])
    tenth = max(len(times) // 10, 1)
    first, last = np.median(times[:tenth]), np.median(times[-tenth:])
    return {
        "first_tenth_us": round(first, 2),
        "last_tenth_us": round(last, 2),
        "last_over_first": round(last / first, 4),
        "chunks_in_a_tenth": tenth,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--length", type=int, default=1_000_000, help="tokens in the stream (default: %(default)s)")
    args = parser.parse_args()
    if args.length <= (WARM_UP + 1) * CHUNK:
        parser.error(f"--length {args.length} ends within the warm-up: give more than {(WARM_UP + 1) * CHUNK}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no CUDA device here")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = write_model(folder / "model")
        chunks = read_stream(folder, args.length, args.device)
    memory, times = memory_growth(chunks), time_growth(chunks)
    kind = "allocated on the GPU" if args.device == "cuda" else "resident"
    print(f"{len(chunks)} chunks of {CHUNK:,} tokens; the first {WARM_UP} are warm-up, up to the first checkpoint")
    print(
        f"memory {kind}: {memory['first_mib']:.1f} MiB after chunk {WARM_UP + 1}, {memory['last_mib']:.1f} after the "
        f"last: {memory['last_over_first']:.4f} times ({memory['growth_mib']:+.2f} MiB; in between "
        f"{memory['least_mib']:.1f}-{memory['most_mib']:.1f})"
    )
    print(
        f"time per token: {times['first_tenth_us']:.1f} µs in the first tenth, {times['last_tenth_us']:.1f} in the "
        f"last: {times['last_over_first']:.4f} times (medians of {times['chunks_in_a_tenth']} chunks)"
    )
    settings = {"model": sizes, "length": args.length, "chunk": CHUNK, "warm_up_chunks": WARM_UP, "plays": PLAYS}
    branches = {"local_branch": LOCAL_BRANCH, "global_branch": GLOBAL_BRANCH}
    every_tenth = [round(chunk["memory_bytes"] / MIB, 2) for chunk in chunks[::10]]
    results = {**settings, **branches, "memory": memory, "time_per_token": times}
    path = save_results("stream_bounded", args.device, {**results, "memory_mib_of_every_tenth_chunk": every_tenth})
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
