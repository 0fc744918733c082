"""llama.cpp beside ours, without llama.cpp: a stand-in for its package computes with Transformers."""

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import llama_cpp
from benchmarks.alternatives import llama_cpp_model
from benchmarks.alternatives.llama_cpp_model import LlamaCppModel
from benchmarks.measuring.model_reading import load
from benchmarks.measuring.text_reading import QUANTITIES, OwnModel
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_models import tiny_input_ids, tiny_model
from utils.errors import UserError

PEERS = ["llama.cpp", "llama.cpp, flash attention"]


@dataclass(slots=True)
class ModelParameters:
    n_gpu_layers: int = -1


@dataclass(slots=True)
class ContextParameters:
    n_ctx: int = 512
    n_batch: int = 2048
    n_ubatch: int = 512
    n_threads: int = 4
    n_threads_batch: int = 4
    flash_attn_type: int = -1
    offload_kqv: bool = True
    op_offload: bool = True


class Context:
    """One text, which is read whole at each call; logits lie in one buffer, as llama.cpp's do."""

    def __init__(self, model, parameters):
        self.model, self.parameters, self.tokens = model, parameters, []
        self.buffer = np.empty((parameters.n_batch, model.config.vocab_size), dtype=np.float32)

    def decode(self, batch):
        count = batch.n_tokens
        places = range(len(self.tokens), len(self.tokens) + count)
        assert batch.pos[:count] == list(places) and count <= self.parameters.n_batch
        assert batch.n_seq_id[:count] == [1] * count and batch.seq_id[:count] == [[0]] * count
        if places.stop > self.parameters.n_ctx:
            return 1
        self.tokens += batch.token[:count]
        with torch.no_grad():
            logits = self.model(torch.tensor([self.tokens])).logits[0, -count:]
        wanted = logits[torch.tensor(batch.logits[:count], dtype=torch.bool)].numpy()
        self.buffer[:] = np.nan
        self.buffer[: len(wanted)] = wanted
        return 0


class Library(ModuleType):
    """What is used of the package llama_cpp. contexts: all that were made. batches: sizes of those that were read."""

    __version__ = "0.0"
    LLAMA_FLASH_ATTN_TYPE_DISABLED, LLAMA_FLASH_ATTN_TYPE_ENABLED = 0, 1
    llama_model_default_params = ModelParameters
    llama_context_default_params = ContextParameters

    def __init__(self):
        super().__init__("llama_cpp")
        self.__spec__ = ModuleSpec("llama_cpp", None)
        self.contexts, self.batches = [], []

    def llama_backend_init(self):
        pass

    def llama_print_system_info(self):
        return b"CPU : OPENMP = 1"

    def llama_model_load_from_file(self, path, parameters):
        assert parameters.n_gpu_layers == 0
        return load(path.decode(), "float32", "cpu")

    def llama_model_desc(self, model, buffer, size):
        assert ctypes.sizeof(buffer) == size
        buffer.value = b"llama tiny F32"

    def llama_model_get_vocab(self, model):
        return model.config

    def llama_vocab_n_tokens(self, vocabulary):
        return vocabulary.vocab_size

    def llama_init_from_model(self, model, parameters):
        self.contexts.append(Context(model, parameters))
        return self.contexts[-1]

    def llama_get_memory(self, context):
        return context

    def llama_memory_clear(self, memory, data):
        memory.tokens = []

    def llama_batch_init(self, tokens, embd, sequences):
        assert (embd, sequences) == (0, 1)
        batch = {name: [None] * tokens for name in ("token", "pos", "n_seq_id", "logits")}
        return SimpleNamespace(n_tokens=0, seq_id=[[None] for _ in range(tokens)], **batch)

    def llama_decode(self, context, batch):
        self.batches.append(batch.n_tokens)
        return context.decode(batch)

    def llama_get_logits(self, context):
        return context.buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


@pytest.fixture
def library(monkeypatch):
    """The package, as if it were installed."""
    stand_in = Library()
    monkeypatch.setitem(sys.modules, "llama_cpp", stand_in)
    return stand_in


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_gguf(tiny_model("llama"), path)
    return path


@pytest.fixture
def words(gguf, tmp_path):
    """A command line over a text of more than 48 tokens."""
    (tmp_path / "text.txt").write_text("the cat and the hat. " * 20)
    line = f"llama_cpp.py --model {gguf} --dataset {tmp_path / 'text.txt'} --lengths 48 12 --tokens 3 --local_branch 16"
    return [*line.split(), "--global_branch", "2", "--repeats", "2", "--dtypes", "float32", "--out", str(tmp_path)]


@pytest.fixture
def in_this_process(monkeypatch):
    """Cases are measured here, and nothing is prepared for them."""
    monkeypatch.setattr(llama_cpp, "prepare_processor", lambda: None)
    monkeypatch.setattr(llama_cpp, "measure_case", lambda script, measure, case: measure(case))


def run_main(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", words)
    llama_cpp.main()


@torch.no_grad()
def greedy(model, ids, count):
    """The next tokens, without a cache."""
    for _ in range(count):
        ids = torch.cat([ids, model(ids[None]).logits[0, -1:].argmax(-1)])
    return ids[-count:].tolist()


@torch.no_grad()
def test_llama_cpp_and_ours_compute_the_same(gguf, library, monkeypatch):
    monkeypatch.setattr(llama_cpp_model, "BATCH", 16)
    monkeypatch.setattr(llama_cpp_model, "ROWS", 5)
    model, ids = load(str(gguf), "float32", "cpu"), tiny_input_ids(1, 49)[0]
    expected = F.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
    for reader in (LlamaCppModel(gguf, 49 + 5, threads=2, flash=True), OwnModel(model)):
        for _ in range(2):  # the second time as the first
            torch.testing.assert_close(reader.nll(ids), expected, rtol=1e-4, atol=1e-5)
            reader.prefill(ids)
            assert reader.generate(5) == greedy(model, ids, 5)
    assert library.batches == 2 * [*(2 * [16, 16, 16, 1]), 1, 1, 1, 1, 1]


def test_a_text_longer_than_the_context_is_no_number(gguf, library):
    reader = LlamaCppModel(gguf, 20, threads=1, flash=False)
    with pytest.raises(RuntimeError, match="llama_decode returned 1 at token 0"):
        reader.nll(tiny_input_ids(1, 21)[0])


def test_rows_of_every_method(words, library, in_this_process, monkeypatch, tmp_path, capsys):
    run_main(monkeypatch, words)
    results = json.loads((tmp_path / "llama_cpp_cpu.json").read_text())
    methods = [*PEERS, "vanilla, float32", "Λ-attention, float32"]
    assert [(row["method"], row["length"]) for row in results["rows"]] == [
        (method, length) for length in (12, 48) for method in methods
    ]
    assert all(row[name]["repeats"] == 2 and row[name]["low"] > 0 for row in results["rows"] for name in QUANTITIES)
    short, long = ([row["nll"] for row in rows] for rows in (results["rows"][:4], results["rows"][4:]))
    assert short == pytest.approx([short[2]] * 4, abs=1e-4)  # within the window
    assert long[:2] == pytest.approx([long[2]] * 2, abs=1e-4) and abs(long[3] - long[2]) > 1e-3
    used = {"file": "tiny.gguf", "llama_cpp_python": "0.0", "system": "CPU : OPENMP = 1", "weights": "llama tiny F32"}
    assert results["llama_cpp"] == used and results["decoded_tokens"] == 3
    assert results["lambda_attention"]["local_branch"] == results["lambda_attention"]["limit_distance"] == 16
    printed = capsys.readouterr().out
    assert f"llama.cpp, flash attention  {long[1]:.4f}" in printed and "wrote" in printed
    assert printed.index(" 12 tokens ") < printed.index(" 48 tokens ")


def test_llama_cpp_has_the_threads_of_torch_and_stays_on_the_cpu(words, library, in_this_process, monkeypatch):
    run_main(monkeypatch, words)
    for number, context in enumerate(library.contexts):
        given, threads = context.parameters, torch.get_num_threads()
        assert (given.n_ctx, given.n_batch, given.n_ubatch) == (48 + 3, 512, 512)
        assert (given.n_threads, given.n_threads_batch, given.flash_attn_type) == (threads, threads, number % 2)
        assert not given.offload_kqv and not given.op_offload
    assert len(library.contexts) == 4


def test_a_method_without_memory_is_told_and_left_out(words, library, monkeypatch, tmp_path, capsys):
    measured = []

    def fake(script, measure, case):
        measured.append(case)
        reading = {"nll": 3.0, **dict.fromkeys(QUANTITIES, 2.0)}
        vanilla = "flash" not in case and case["lambda_attention"] is None
        return None if vanilla else {"readings": [reading, reading], "library": {}}

    monkeypatch.setattr(llama_cpp, "measure_case", fake)
    run_main(monkeypatch, words)
    rows = json.loads((tmp_path / "llama_cpp_cpu.json").read_text())["rows"]
    assert [row["method"] for row in rows] == 2 * [*PEERS, "Λ-attention, float32"] and len(measured) == 4 + 3
    assert "vanilla, float32: there is not enough memory" in capsys.readouterr().out


def test_every_precision_is_measured_vanilla_and_converted(words, library, monkeypatch):
    monkeypatch.setattr(sys, "argv", [*words, "--dtypes", "float32", "bfloat16"])
    cases = llama_cpp.cases_of(llama_cpp.parse_arguments())
    methods = [f"{name}, {dtype}" for dtype in ("float32", "bfloat16") for name in ("vanilla", "Λ-attention")]
    assert list(cases) == [*PEERS, *methods]
    assert [cases[name]["dtype"] for name in methods] == ["float32", "float32", "bfloat16", "bfloat16"]
    assert [cases[name]["lambda_attention"] is None for name in methods] == [True, False, True, False]


def test_without_the_package_it_is_one_sentence(words, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llama_cpp" else find(name))
    said = "^benchmarks/llama_cpp.py needs the llama-cpp-python package, which is missing here: pip install llama-cpp-"
    with pytest.raises(UserError, match=said):
        run_main(monkeypatch, words)


def test_the_command_is_not_taken_for_the_package_of_its_name(words, gguf, tmp_path):
    """Python puts a script's folder first."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "llama_cpp.py").write_text("raise SystemExit('the package itself')")
    case = {"device": "cpu", "model": str(gguf), "lengths": [12], "tokens": 1, "flash": False}
    run = subprocess.run(
        [sys.executable, llama_cpp.__file__, "--case", json.dumps(case)],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "package")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.stderr.splitlines()[-1:] == ["the package itself"] and run.returncode == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--model", "./none.gguf"], "^--model ./none.gguf: the file cannot be read"),
        (["--model", "owner/name"], "^--model owner/name: llama.cpp reads a .gguf file, so give one, or smollm2$"),
        (["--lengths", "5000"], "^--lengths 5000: no document of --dataset .*text.txt has so many tokens"),
        (["--lengths", "1"], "argument --lengths: must be at least 2, not 1"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(changed, said, words, library, monkeypatch):
    with pytest.raises(UserError, match=said):
        run_main(monkeypatch, [*words, *changed])


def test_a_sample_without_its_gguf_file_is_one_sentence(words, library, monkeypatch, tmp_path):
    monkeypatch.setattr("models.loading.source.SAMPLE_DIR", tmp_path)
    monkeypatch.setattr("models.loading.sample.PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="SmolLM2-135M-Instruct.Q4_1.gguf is not installed: run `make sample`"):
        run_main(monkeypatch, [*words, "--model", "smollm2"])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("llama_model_load_from_file", "tiny.gguf cannot be loaded by llama.cpp: give another .gguf file"),
        ("llama_init_from_model", "llama.cpp makes no context of 1,234 tokens here: give smaller --lengths"),
    ],
)
def test_what_llama_cpp_refuses_is_one_sentence(function, said, gguf, library, monkeypatch):
    monkeypatch.setattr(library, function, lambda *given: None)
    with pytest.raises(UserError, match=said):
        LlamaCppModel(gguf, 1234, threads=1, flash=False)


def test_a_version_without_a_setting_is_refused(gguf, library, monkeypatch):
    """A structure of ctypes would take any name, and compute as if nothing had been said."""
    old = SimpleNamespace(n_ctx=1, n_batch=1, n_ubatch=1)
    monkeypatch.setattr(library, "llama_context_default_params", lambda: old)
    with pytest.raises(UserError, match="this version of llama-cpp-python knows no n_threads: install a newer one"):
        LlamaCppModel(gguf, 64, threads=1, flash=False)
