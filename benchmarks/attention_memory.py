"""Does the working memory of Λ-attention grow with the length? Input and output do not count.

Each measurement is a process of its own; of several, the median counts, for allocators vary by tens of MiB.

python benchmarks/attention_memory.py [--device cuda] [--dtype bfloat16]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.machine import save_results
from models.lambda_attention import AttentionLayer, LambdaConfig, lambda_attention
from models.positions import RotaryPositions

LENGTHS = (16_384, 65_536, 262_144)
QUERY_HEADS, KEY_HEADS, HEAD_DIM = 9, 3, 64
CONFIG = LambdaConfig(local_branch=4096, global_branch=10, limit_distance=4096)
REPEATS = 5
MIB = 2**20


def inputs(length: int, device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """query, key, value `[1, H, n, d]` as a model's projections lie in memory."""
    shape = (1, length, QUERY_HEADS + 2 * KEY_HEADS, HEAD_DIM)
    fused = torch.randn(shape, device=device, dtype=dtype)
    return list(fused.transpose(1, 2).split([QUERY_HEADS, KEY_HEADS, KEY_HEADS], dim=1))


def attend(tensors: list[torch.Tensor]) -> torch.Tensor:
    inv_freq = 1e5 ** -(torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)
    return lambda_attention(*tensors, AttentionLayer(CONFIG, RotaryPositions(inv_freq), HEAD_DIM**-0.5))


class PeakMemory:
    """Bytes in use now, and the most that were in use since `start`."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def start(self) -> int:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak of the resident memory
        return self._status("VmRSS")

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.cuda else self._status("VmHWM")

    @staticmethod
    def _status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


@torch.no_grad()
def measure(length: int, device: str, dtype: torch.dtype) -> float:
    """MiB of working memory beyond input and output, after a warm-up that loads the libraries."""
    attend(inputs(600, device, dtype))
    tensors, memory = inputs(length, device, dtype), PeakMemory(device)
    before = memory.start()
    output = attend(tensors)
    return (memory.peak() - before - output.nbytes) / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--length", type=int, help="measure this length in this process and print JSON")
    args = parser.parse_args()
    if args.length:
        print(json.dumps(measure(args.length, args.device, getattr(torch, args.dtype))))
        return
    command = [sys.executable, __file__, "--device", args.device, "--dtype", args.dtype, "--length"]
    rows = []
    for length in LENGTHS:
        runs = [
            subprocess.run([*command, str(length)], check=True, capture_output=True, text=True) for _ in range(REPEATS)
        ]
        memory = sorted(round(float(run.stdout), 1) for run in runs)
        rows.append({"length": length, "working_memory_mib": memory[REPEATS // 2], "all_runs_mib": memory})
        print(
            f"{length:>8,} tokens: {memory[REPEATS // 2]:6.1f} MiB beyond input and output ({memory[0]}-{memory[-1]})"
        )
    settings = {"dtype": args.dtype, "heads": [QUERY_HEADS, KEY_HEADS, HEAD_DIM], "lambda_attention": CONFIG.to_dict()}
    save_results("attention_memory", args.device, {**settings, "rows": rows})


if __name__ == "__main__":
    main()
