"""A folder of small local tasks, one of each output type of lm-eval, and a model as lm-eval asks it."""

import gc
import json
import sys
from types import SimpleNamespace

import pytest
import torch

from models.get_model import ModelSpec
from scripts import eval_lm_harness
from scripts.generation.arguments import Generation
from scripts.generation.generator import Generator
from scripts.generation.way import Way
from scripts.harness.model import load_model
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.prefill import Prefill
from scripts.perplexity.reading import ChunkReader
from utils.console import Console
from utils.ranks.runtime import Runtime

SCRIPT = "eval_lm_harness"
WINDOW, FIRST = 16, 4
LAMBDA = ("--use_lambda_attention", "--local_branch", WINDOW, "--global_branch", FIRST)
TEXTS = [" ".join(["the cat and the dog", "a wörd and"][place % 2] for place in range(count)) for count in (1, 7, 4)]
CHOICES = [" the", " and the dog", " bird"]
GENERATED = 4
HEAD = """dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
metadata:
  version: 1.0
"""
TASKS = {
    "own_rolling": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: byte_perplexity
""",
    "own_likelihood": """output_type: loglikelihood
doc_to_text: "{{text}}"
doc_to_target: " and the dog"
target_delimiter: ""
metric_list:
  - metric: acc
""",
    "own_choice": """output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_target: gold
doc_to_choice: choices
target_delimiter: ""
metric_list:
  - metric: acc
  - metric: acc_norm
""",
    "own_generation": f"""output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: answer
generation_kwargs:
  until: []
  max_gen_toks: {GENERATED}
metric_list:
  - metric: exact_match
""",
}
GROUP = """group: own_group
task:
  - own_choice
  - own_likelihood
aggregate_metric_list:
  - metric: acc
    weight_by_size: true
metadata:
  version: 1.0
"""


def write_tasks(folder, answers=("a", "b", "c")):
    """The tasks and their data in a new folder; returns it."""
    folder.mkdir()
    lines = [
        {"text": text, "choices": CHOICES, "gold": place % 3, "answer": answer}
        for place, (text, answer) in enumerate(zip(TEXTS, answers))
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(f"task: {name}\n" + HEAD.format(data=folder / "data.jsonl") + text)
    (folder / "group.yaml").write_text(GROUP)
    return folder


def run_here(*flags):
    """The script in this process: fast, and its UserError can be seen."""
    gc.collect()  # a trial that an exception left behind holds its lock
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{SCRIPT}.py", *map(str, flags)])
        eval_lm_harness.main()


def scores(results):
    """{(task, metric): score}"""
    return {(found["task"], found["metric"]): found["score"] for found in results["scores"]}


def language_model(folder, attention=None, chunk=None, batch_size=1, max_length=None, **spec):
    """The model in a folder as lm-eval asks it, read in chunks of so many tokens. spec: more of a ModelSpec."""
    from scripts.lm_harness.language_model import LmInfinite

    runtime = Runtime(0, 1, torch.device("cpu"), Console(silent=True), None)
    model = load_model(ModelPlan(ModelSpec(str(folder), **spec), attention), runtime)
    reader = ChunkReader(model, Prefill(chunk), runtime)
    way = Way(reading=Prefill(chunk))
    generator = Generator(model.model, model.tokenizer, Generation(), runtime.device, way=way)
    return LmInfinite(model, generator, reader, runtime, batch_size, max_length)


def requests(*arguments):
    """As lm-eval hands them over."""
    return [SimpleNamespace(args=one, task_name="own") for one in arguments]
