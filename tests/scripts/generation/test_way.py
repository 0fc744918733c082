"""How prompts are read and tokens decoded: a captured step where there can be one, and why not elsewhere."""

from dataclasses import replace

import pytest
import torch

from models.attention.config import LambdaConfig, TopK
from models.decode_graph import CapturedSteps
from models.get_model import ModelSpec
from models.model_base import convert_model
from scripts.generation.arguments import Generation
from scripts.generation.generator import Generator
from scripts.generation.way import Way, choose_way, reason_for_ordinary_steps
from scripts.harness.model import RunnableModel
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.prefill import Prefill
from scripts.harness.prefill_arguments import PrefillPlan
from tests.scripts.harness.test_model import RUNTIME
from tests.tape import taped_graphs
from tests.tiny_models import tiny_input_ids, tiny_model, tiny_tokenizer

LAMBDA = LambdaConfig(8, 2, 8)
SPEC = ModelSpec("tiny")
GREEDY = Generation()
ON_GPU = replace(RUNTIME, device=torch.device("cuda", 0))


def runnable(model_type="llama", attention=LAMBDA):
    model = tiny_model(model_type)
    return RunnableModel(convert_model(model, attention) if attention else model, None, {}, None)


def reason(generation=GREEDY, model_type="llama", attention=LAMBDA, spec=SPEC, device="cuda", synced=False):
    plan = ModelPlan(spec, attention)
    return reason_for_ordinary_steps(generation, runnable(model_type, attention), plan, device, synced)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({}, None),
        ({"generation": Generation(do_sample=True, suppress_tokens=[5])}, None),
        ({"generation": Generation(no_captured_step=True)}, "--no_captured_step"),
        ({"device": "cpu"}, "there is no GPU"),
        ({"attention": None}, "the cache of a vanilla model grows with each token"),
        ({"attention": replace(LAMBDA, top_k=TopK(2, 5))}, "the middle tokens are kept"),
        ({"attention": replace(LAMBDA, triangle_offset=1.0)}, "the middle tokens are kept"),
        ({"synced": True}, "ranks share the weights"),
        ({"spec": replace(SPEC, load_in_4bit=True)}, "--load_in_4bit"),
        (
            {"model_type": "llama4_text", "attention": LambdaConfig(17, 2, 17)},
            "some layers attend within chunks of their own",
        ),
        ({"model_type": "mixtral"}, "the host picks each token's experts"),
    ],
)
def test_why_a_step_is_not_captured(changes, words):
    assert reason(**changes) == words


def test_a_model_on_several_devices_has_no_one_graph():
    model = runnable()
    model.model.lm_head.to("meta")
    plan = ModelPlan(SPEC, LAMBDA)
    assert reason_for_ordinary_steps(Generation(), model, plan, "cuda", False) == "the model lies on several devices"


@pytest.mark.parametrize("runtime, captured", [(RUNTIME, False), (ON_GPU, True)], ids=["CPU", "GPU"])
def test_what_is_chosen_is_said(runtime, captured):
    model, plan = runnable(), ModelPlan(SPEC, LAMBDA)
    way = choose_way(Generation(), PrefillPlan(7), model, plan, 1, runtime)
    said = "a captured step" if captured else "ordinary forwards (there is no GPU)"
    assert way.announcement(8) == f", longer texts in chunks of 7 tokens, decoding by {said}"
    assert way.announcement(7) == f", decoding by {said}"
    assert isinstance(way.decoding, CapturedSteps) == captured and way.reading.chunk == 7


def test_a_generator_captures_once_for_all_that_it_generates(monkeypatch):
    model = convert_model(tiny_model(), LAMBDA)
    prompts = [tiny_input_ids(2, length, length) for length in (30, 12, 25)]

    def texts(way):
        ours = Generator(model, tiny_tokenizer(), Generation(9), torch.device("cpu"), ("the", "and"), way)
        return [ours.generate(prompt).texts for prompt in prompts]

    ordinary = texts(Way())
    with taped_graphs(monkeypatch) as tapes:
        steps = CapturedSteps(model)
        assert texts(Way(Prefill(10), steps)) == ordinary
    assert len(tapes) == steps.captures == 1 and tapes[0].replays == steps.taken > 9
