"""How many tokens are read at once: by the flag, by memory, and where chunks would change the numbers."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from models.get_model import ModelSpec
from models.lambda_attention import LambdaConfig, TopK
from models.loading.activations import bytes_per_token
from models.scoring.nll_scorer import LARGER_ON_GPU, SLICE_LOGITS
from scripts.harness import prefill
from scripts.harness.model import RunnableModel
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.prefill import Prefill, choose_prefill
from scripts.harness.prefill_arguments import PrefillPlan, add_prefill_arguments
from tests.models.loading.test_activations import LLAMA_7B
from tests.scripts.harness.test_model import RUNTIME
from tests.tiny_models import tiny_config, tiny_model
from utils.arguments import HarnessParser, plan_of
from utils.errors import UserError

LAMBDA = LambdaConfig(8, 2, 8)
DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}


def chosen(flag, attention=LAMBDA, model=None, rows=1, runtime=RUNTIME, fills_cache=False):
    model = RunnableModel(model or tiny_model(), tokenizer=None, identity={}, lambda_attention=None)
    plan = ModelPlan(ModelSpec("tiny"), attention)
    return choose_prefill(PrefillPlan(flag), model, plan, rows, runtime, fills_cache).chunk


@pytest.mark.parametrize("words, expected", [([], None), (["none"], "none"), (["None"], "none"), (["7"], 7)])
def test_the_flag(words, expected):
    parser = HarnessParser("")
    add_prefill_arguments(parser)
    flags = vars(parser.parse_args(["--prefill_chunk", *words] if words else []))
    assert plan_of(PrefillPlan, flags) == PrefillPlan(expected)


@pytest.mark.parametrize("word", ["0", "-3", "all", "1.5"])
def test_a_chunk_is_at_least_a_token(word):
    parser = HarnessParser("")
    add_prefill_arguments(parser)
    with pytest.raises(UserError, match="--prefill_chunk"):
        parser.parse_args(["--prefill_chunk", word])


@pytest.mark.parametrize("length, chunk, expected", [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 3, [2]), (9, None, [9])])
def test_parts(length, chunk, expected):
    parts = Prefill(chunk).parts(length)
    assert [part.stop - part.start for part in parts] == expected
    assert [part.start for part in parts] == [sum(expected[:place]) for place in range(len(expected))]
    assert Prefill(chunk).parts(0) == []


def test_the_announcement_is_made_where_a_text_may_be_longer():
    assert Prefill(None).announcement(None) == Prefill(9000).announcement(9000) == ""
    assert Prefill(9000).announcement(9001) == Prefill(9000).announcement(None)
    assert "chunks of 9,000 tokens" in Prefill(9000).announcement(None)


def test_the_flag_counts():
    assert chosen(5) == 5
    assert chosen("none") is None


def test_by_memory_a_chunk_is_smaller_the_less_there_is(monkeypatch):
    model = tiny_model()
    each = bytes_per_token(model, LAMBDA.global_branch)
    for share, rows, expected in [(100.0, 1, 65_536), (3.7, 1, 3072), (3.7, 2, 1024), (0.01, 1, 1024)]:
        room = int(share * 1024 * each / prefill.SHARE)
        monkeypatch.setattr(prefill, "free_memory", lambda device, room=room: room)
        assert chosen(None, model=model, rows=rows) == expected


def test_weights_that_are_still_to_come_to_the_device_take_room_there(monkeypatch):
    weights = sum(weight.nbytes for weight in tiny_model().parameters())
    each = bytes_per_token(tiny_model(), LAMBDA.global_branch) / prefill.SHARE
    monkeypatch.setattr(prefill, "MULTIPLE", 1)
    monkeypatch.setattr(prefill, "free_memory", lambda device: weights + int(50 * each) + 1)
    on_gpu = replace(RUNTIME, device=torch.device("cuda", 0))
    assert chosen(None, runtime=on_gpu) == 50
    assert chosen(None) == 50 + int(weights / each)


def test_a_7b_model_reads_any_length_on_a_gpu_of_80_gib(monkeypatch):
    """In chunks as long as they get: weights, a chunk, the cache and a slice of logits leave half of it free."""
    config = tiny_config("llama", **LLAMA_7B, num_hidden_layers=32, vocab_size=32_000)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    attention = LambdaConfig(4096, 100, 4096)
    weights = sum(weight.nbytes for weight in model.parameters())
    cache = 32 * 2 * (4096 + 100) * 4096 * 2  # layers, keys and values, tokens, features, bytes
    logits = LARGER_ON_GPU * SLICE_LOGITS * 2
    monkeypatch.setattr(prefill, "free_memory", lambda device: 80 * 2**30 - weights)
    tokens = chosen(None, attention, model, runtime=replace(RUNTIME, device=torch.device("cuda", 0)))
    assert tokens == 65_536
    assert weights + tokens * bytes_per_token(model, 100) + cache + logits < 40 * 2**30


class TwoRanks:
    """A rank beside one that could take 2,048 tokens."""

    device, sequence_parallel = RUNTIME.device, 1

    def gather(self, own):
        return [own, 2048]

    def broadcast(self, value):
        return value


def test_ranks_agree_on_the_smallest(monkeypatch):
    monkeypatch.setattr(prefill, "free_memory", lambda device: 2**40)
    assert chosen(None, runtime=TwoRanks()) == 2048


@pytest.mark.parametrize("attention", [None, replace(LAMBDA, triangle_offset=1.0)], ids=["vanilla", "triangle"])
def test_a_cache_of_all_tokens_is_not_filled_for_the_chunks_alone(attention, monkeypatch):
    monkeypatch.setattr(prefill, "free_memory", lambda device: 2**40)
    assert chosen(None, attention) is None
    assert chosen(None, attention, fills_cache=True) == prefill.LARGEST_UNBOUNDED
    assert chosen(5, attention) == 5


@pytest.mark.parametrize(
    "attention, overrides, words",
    [(replace(LAMBDA, top_k=TopK(2, 8)), {}, "--top_k_attention"), (None, DYNAMIC, "RoPE scaling")],
)
def test_chunks_that_would_change_the_numbers_are_refused(attention, overrides, words):
    model = tiny_model(**overrides)
    with pytest.raises(UserError, match=f"--prefill_chunk 5: .*{words}"):
        chosen(5, attention, model)
    assert chosen(None, attention, model, fills_cache=True) is None
    assert chosen("none", attention, model) is None


def test_a_vanilla_model_of_an_unknown_kind_is_read_in_one_forward_unless_the_flag_says_otherwise():
    model = tiny_model("gpt2")
    assert chosen(None, None, model, fills_cache=True) is None
    assert chosen(5, None, model) == 5
