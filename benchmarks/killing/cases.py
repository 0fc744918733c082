"""What is killed: every script, alone and on two ranks, with the weights whole and shared out, in groups of texts."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from benchmarks.measuring.random_models import random_model

ZERO3 = str(Path(__file__).resolve().parents[2] / "configs" / "zero3_efficient_config.json")
SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
TEXTS, WORDS = 24, (40, 90)
"""Documents, and the fewest and most words of one."""
CHUNKS = 40
LAMBDA = ("--use_lambda_attention", "--local_branch", "64", "--global_branch", "4", "--limit_distance", "64")
TOGETHER = ("--sequence_parallel", "2")
SHARDED = ("--deepspeed_config", ZERO3)
BATCHES = ("--batch_size", "3")
DEEPSPEED, TORCHRUN = "deepspeed", "torchrun"


@dataclass(frozen=True)
class Case:
    """A trial to be killed. ranks: of the script. launcher: who starts them; None: the benchmark itself, quickly."""

    script: str
    ranks: int = 1
    flags: Sequence[str] = ()
    launcher: str | None = None

    @property
    def name(self) -> str:
        words = [self.script, f"{self.ranks} rank{'s' if self.ranks > 1 else ''}"]
        words += [words_of for flags, words_of in WORDS_OF.items() if set(flags) <= set(self.flags)]
        return ", ".join([*words, *([self.launcher] if self.launcher else [])])


LM_TASKS = {f"random_{place:02d}": kind for place, kind in enumerate(12 * ("loglikelihood_rolling", "generate_until"))}
"""Names of lm-eval's tasks, and what each asks for."""
LM_TASK = """task: {name}
output_type: {kind}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {texts}
test_split: test
doc_to_text: {text}
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: {metric}
metadata:
  version: 1.0
"""
GENERATING = "generation_kwargs:\n  until: []\n  max_gen_toks: 6\n"
WORDS_OF = {SHARDED: "ZeRO-3", TOGETHER: "one sequence", BATCHES: "batches of 3"}
PPL, STREAM, GENERATION = "eval_ppl_deepspeed", "eval_infinite_ppl", "eval_generation"
TASKS, DIAGNOSIS, LM_EVAL = "eval_downstream_tasks", "diagnose", "eval_lm_harness"
TWO_STREAMS = ("--streams", "2")
SIZES = {
    PPL: "--max_length 400",
    STREAM: f"--streaming_length {CHUNKS * 100} --max_length 100 --token_cache none --save_steps 3 --save_token_nll",
    GENERATION: "--evaluate_positions 60 120 --max_generation_length 6",
    TASKS: f"--max_length 500 --num_samples {TEXTS} --max_generation_length 4",
    LM_EVAL: f"--tasks {','.join(LM_TASKS)}",
    DIAGNOSIS: "--max_length 200 --num_queries 16 --num_bins 8 --num_positions 4 --num_hidden 16",
}
CASES = (
    Case(PPL),
    Case(PPL, flags=BATCHES),
    Case(PPL, 2),
    Case(PPL, 2, BATCHES),
    Case(PPL, 2, SHARDED),
    Case(PPL, 2, TOGETHER),
    Case(STREAM),
    Case(STREAM, 2, TWO_STREAMS),
    Case(STREAM, 2, SHARDED),
    Case(STREAM, 2, TOGETHER),
    Case(GENERATION),
    Case(GENERATION, flags=BATCHES),
    Case(GENERATION, 2),
    Case(GENERATION, 2, SHARDED),
    Case(TASKS),
    Case(TASKS, flags=BATCHES),
    Case(TASKS, 2),
    Case(TASKS, 2, SHARDED),
    Case(DIAGNOSIS),
    Case(DIAGNOSIS, 2),
    Case(DIAGNOSIS, 2, SHARDED),
    Case(PPL, 2, launcher=DEEPSPEED),
    Case(STREAM, 2, TWO_STREAMS, TORCHRUN),
    Case(LM_EVAL),
)


def flags_of(case: Case, folder: Path) -> list[str]:
    """The script's flags. folder: where `prepare` has put the model and the texts."""
    data = ["--dataset", "passkey_retrieval" if case.script == TASKS else str(folder / "texts")]
    if case.script == LM_EVAL:
        data = ["--include_path", str(folder / "lm_tasks")]
    words = [*SIZES[case.script].split(), *LAMBDA, *case.flags]
    return ["--model", str(folder / "model"), *data, *words]


def prepare(folder: Path, seed: int) -> None:
    """Make a small model of random weights, its tokenizer and texts of random words."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    tokenizer = byte_tokenizer()
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=256, **sizes)
    random_model(config, "cpu", torch.float32).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "texts").mkdir()
    draw = random.Random(seed)
    for place in range(TEXTS):
        (folder / "texts" / f"{place:03d}.txt").write_text(random_text(draw), encoding="utf-8")
    prepare_lm_tasks(folder / "lm_tasks", draw)


def prepare_lm_tasks(folder: Path, draw: random.Random) -> None:
    """Write lm-eval's tasks and their texts."""
    folder.mkdir()
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": random_text(draw)}) + "\n" for _ in range(3)), encoding="utf-8")
    for name, kind in LM_TASKS.items():
        generates = kind == "generate_until"
        text, metric = ('"{{text}}"', "exact_match") if generates else ('""', "byte_perplexity")
        task = LM_TASK.format(name=name, kind=kind, texts=texts, text=text, metric=metric)
        (folder / f"{name}.yaml").write_text(task + (GENERATING if generates else ""), encoding="utf-8")


def random_text(draw: random.Random) -> str:
    return " ".join(draw.choice(("the", "and", "wörd", "that", "is", "so")) for _ in range(draw.randint(*WORDS)))


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte, and the special ones."""
    tokens = [*SPECIAL_TOKENS.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={token: place for place, token in enumerate(tokens)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS)
