"""The machine in words, and a benchmark's results on disk."""

import json
import platform
import re
from pathlib import Path
from typing import Any

import torch

from models.attention.prefill import measured
from models.attention.prefill.window_weights import built_pass
from models.attention.processor import processor_name
from utils.files import replace_file

NOT_OF_A_NAME = re.compile(r"\((?:r|tm)\)|@ *[\d.]+ *ghz|[^a-z0-9]")
"""Trademarks, a clock, and what a folder should not be called."""


def describe_machine(device: str) -> dict[str, Any]:
    """The processor or accelerator, threads and versions that a number was measured with, and what `make` compiled."""
    name = _device(device)
    if device != "cuda":
        name += f", {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    return {"device": name, **versions, "compiled_pass": built_pass() is not None}


def machine_name(device: str) -> str:
    """The processor or card as a folder is called: amd_epyc_25_17, nvidia_h100_80gb_hbm3."""
    return as_file_name(_device(device))


def as_file_name(name: str) -> str:
    """A device's name in lower case, its words joined by underscores."""
    return "_".join(NOT_OF_A_NAME.sub(" ", name.lower()).split())


def _device(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else processor_name()


def save_results(folder: Path, name: str, device: str, results: dict[str, Any]) -> Path:
    """Write `results` with the machine's description to NAME_DEVICE.json in `folder`, whole or not at all.

    And with the backends that this process has measured to be the fastest, where it has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_{device}.json"
    choices = {measured.RECORDED: found} if (found := measured.found()) else {}
    text = json.dumps({"machine": describe_machine(device), **results, **choices}, indent=2) + "\n"
    replace_file(path, lambda file: file.write(text.encode()))
    return path
