"""Turn the sample model's GGUF file into a Hugging Face folder, once: it then loads fast, and under ZeRO-3.

The folder appears whole or not at all. Weights are stored in float32, so `--dtype auto` computes in float32.
"""

import fcntl
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models.loading.sample import SAMPLE_DIR, sample_gguf
from utils.program import run_main


def main() -> None:
    with locked(SAMPLE_DIR.parent):
        if SAMPLE_DIR.exists():
            print(f"{SAMPLE_DIR} is there already")
            return
        partial = SAMPLE_DIR.with_name(f"{SAMPLE_DIR.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
        convert_gguf(sample_gguf(), partial)
        partial.rename(SAMPLE_DIR)
    print(f"wrote {SAMPLE_DIR}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` against a second run that was started meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model (safetensors, float32) and the tokenizer of a GGUF file to `folder`."""
    print(f"converting {gguf.name} (about 20 s)", flush=True)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


if __name__ == "__main__":
    run_main(main)
