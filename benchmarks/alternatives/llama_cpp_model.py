"""llama.cpp through the low-level functions of llama-cpp-python: a whole model as a peer, on the weights as quantized.

The package is optional, and imported where a model is opened.
"""

import ctypes
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import need_package
from utils.errors import UserError

PACKAGE, MODULE = "llama-cpp-python", "llama_cpp"
BATCH = 512
"""Tokens of one llama_decode: llama.cpp's own physical batch. All logits of a long text would be gigabytes."""
ROWS = 16
"""Positions whose loss is taken at once: so few logits stay in the processor's cache."""
DESCRIPTION_BYTES = 256


def need_llama_cpp() -> None:
    """Raises UserError unless the package is installed."""
    need_package("benchmarks/llama_cpp.py", PACKAGE, MODULE)


class LlamaCppModel:
    """A TextModel: a .gguf file as llama.cpp runs it on the CPU, with a float16 cache, as long as the process lives.

    positions: tokens that the cache has room for. threads: for prompts and for single tokens. flash: whether its flash
    attention is used. Raises UserError where the file cannot be loaded, or there is no memory for so many positions.
    """

    def __init__(self, gguf: Path, positions: int, threads: int, flash: bool) -> None:
        import llama_cpp

        self._library = llama_cpp
        logging.getLogger(PACKAGE).setLevel(logging.ERROR)  # else a page on each model and context goes to stderr
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(str(gguf).encode(), self._model_parameters())
        if self._model is None:
            raise UserError(f"{gguf} cannot be loaded by llama.cpp: give another .gguf file")
        self._context = llama_cpp.llama_init_from_model(self._model, self._parameters(positions, threads, flash))
        if self._context is None:
            raise UserError(f"llama.cpp makes no context of {positions:,} tokens here: give smaller --lengths")
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._read, self._next = 0, 0

    def _model_parameters(self) -> Any:
        return _filled(self._library.llama_model_default_params(), {"n_gpu_layers": 0})

    def _parameters(self, positions: int, threads: int, flash: bool) -> Any:
        """Those of a context on the CPU, also where the package was built for a GPU."""
        enabled, disabled = self._library.LLAMA_FLASH_ATTN_TYPE_ENABLED, self._library.LLAMA_FLASH_ATTN_TYPE_DISABLED
        values = {"n_ctx": positions, "n_batch": BATCH, "n_ubatch": BATCH}
        values |= {"n_threads": threads, "n_threads_batch": threads, "flash_attn_type": enabled if flash else disabled}
        values |= {"offload_kqv": False, "op_offload": False}
        return _filled(self._library.llama_context_default_params(), values)

    def describe(self) -> dict[str, str]:
        """The package's version, what llama.cpp was compiled for, and the kind of the weights."""
        text = ctypes.create_string_buffer(DESCRIPTION_BYTES)
        self._library.llama_model_desc(self._model, text, DESCRIPTION_BYTES)
        return {
            "llama_cpp_python": self._library.__version__,
            "system": self._library.llama_print_system_info().decode(),
            "weights": text.value.decode(),
        }

    def nll(self, ids: Tensor) -> Tensor:
        """The logits of a batch are made NLLs before the next batch."""
        self._begin()
        nll = torch.empty(len(ids) - 1)
        for start in range(0, len(ids), BATCH):
            targets = ids[start + 1 : start + 1 + BATCH]
            logits = self._decode(ids[start : start + BATCH].tolist(), every=True)
            nll[start : start + len(targets)] = _losses(torch.from_numpy(logits), targets)
        return nll

    def prefill(self, ids: Tensor) -> None:
        self._begin()
        for part in ids.split(BATCH):
            self._next = int(self._decode(part.tolist(), every=False)[0].argmax())

    def generate(self, count: int) -> list[int]:
        tokens = []
        for _ in range(count):
            tokens.append(self._next)
            # By NumPy: a thread of torch's would still spin on a core that llama.cpp's next step needs.
            self._next = int(self._decode(tokens[-1:], every=False)[0].argmax())
        return tokens

    def _begin(self) -> None:
        """Forget what was read; what its cells hold may stay."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), False)
        self._read = 0

    def _decode(self, tokens: list[int], every: bool) -> np.ndarray:
        """Read at most BATCH tokens, m, behind those read already.

        Returns the logits of each, float32 [m, vocabulary], or of the last one alone, [1, vocabulary]: llama.cpp's own
        memory, which the next call overwrites.
        """
        batch = self._batch
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place] = token
            batch.pos[place] = self._read + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = every or place == len(tokens) - 1
        status = self._library.llama_decode(self._context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status} at token {self._read}")
        self._read += len(tokens)
        shape = (len(tokens) if every else 1, self._vocabulary)
        return np.ctypeslib.as_array(self._library.llama_get_logits(self._context), shape=shape)


def _filled(parameters: Any, values: dict[str, Any]) -> Any:
    """A structure of llama.cpp with these fields set. Raises UserError for one that this version does not have."""
    for name, value in values.items():
        if not hasattr(parameters, name):  # ctypes would take it as an attribute of Python's, and leave the field alone
            raise UserError(f"this version of {PACKAGE} knows no {name}: install a newer one, pip install -U {PACKAGE}")
        setattr(parameters, name, value)
    return parameters


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the first rows: logits [>= m, vocabulary], targets [m] -> float32 [m]."""
    losses = torch.empty(len(targets))
    for start in range(0, len(targets), ROWS):
        rows = slice(start, min(start + ROWS, len(targets)))
        losses[rows] = F.cross_entropy(logits[rows], targets[rows], reduction="none")
    return losses
