"""A model that reads a prompt and generates after it, timed: what the benchmarks of whole models measure."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaConfig, PreTrainedModel

from benchmarks.measuring.random_models import random_model
from benchmarks.measuring.timing import seconds_of
from models.assumptions import cache_of, with_cache
from models.attention.decode.cache_state import cache_bytes
from models.decode_graph import DecodeGraph
from models.get_model import ModelSpec, get_model
from models.loading.sample import SAMPLE_MODEL
from models.loading.source import find_source
from utils.errors import UserError

RANDOM_7B = "llama2_7b"
LABELS = {SAMPLE_MODEL: "SmolLM2-135M", RANDOM_7B: "Llama-2-7B, random"}


@dataclass(frozen=True)
class Reading:
    """One prompt read and gone on from: seconds to the first token, seconds of all tokens after it, bytes of cache."""

    prefill: float
    decode: float
    cache: int


def check_model(name: str, device: str) -> None:
    """Raises UserError where --model names nothing that can be there, before any process is started."""
    if name != RANDOM_7B:
        find_source("--model", name)
    elif device == "cpu":
        raise UserError(f"--model {RANDOM_7B} needs --device cuda: a model of this size is too slow for a CPU")


def load(name: str, dtype: str, device: str) -> PreTrainedModel:
    """A vanilla model as --model names it, on the device."""
    if name != RANDOM_7B:
        return get_model(ModelSpec(name, dtype=dtype)).model.to(device)
    return random_model(LlamaConfig(), device, getattr(torch, dtype))


@torch.no_grad()
def read_and_generate(model: PreTrainedModel, length: int, tokens: int, graph: bool = False) -> Reading:
    """Read a random prompt of `length` tokens, then generate one token and `tokens` more.

    graph: whether each of them is a replay of one DecodeGraph, which is captured before they are timed.
    """
    device = model.device.type
    prompt = torch.randint(model.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    prompt, state = prompt.to(device), {}

    def prefill() -> None:
        output = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
        state.update(cache=cache_of(output), token=output.logits.argmax(-1))

    def step(token: Tensor) -> Tensor:
        return model(input_ids=token, **with_cache(model, state["cache"]), use_cache=True).logits

    def decode() -> Tensor:
        token = state["token"]
        for _ in range(tokens):
            token = next_logits(token).argmax(-1)
        return token

    prefill_seconds, next_logits = seconds_of(prefill, device), step
    if graph:
        next_logits = DecodeGraph(model, state["cache"]).step
        state["token"] = next_logits(state["token"]).argmax(-1)
    return Reading(prefill_seconds, seconds_of(decode, device), cache_bytes(state["cache"]))
