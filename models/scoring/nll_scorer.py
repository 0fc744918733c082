"""The NLL of every token of a text without ever holding all logits: the LM head works on slices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._triton import has_triton
from transformers import PretrainedConfig, PreTrainedModel

from ..assumptions import LOGIT_CAP, LOGIT_SCALE, LOGITS_SCALING
from ..attention.compiled import compile_whole
from ..converting.wrappers import base_model
from .log_sums import log_sums

SLICE_POSITIONS = 1024
SLICE_LOGITS = 2**24  # logits alive at once: 64 MiB in float32
LARGER_ON_GPU = 16  # there they are never made float32, and a launch costs as much as many of them
CACHED_LOGITS = 2**19
"""Logits on the CPU whose loss is taken at once, per thread: of so few, what is made of them stays in its cache."""


class NllScorer(nn.Module):
    """Wraps a causal LM of Transformers; `forward` gives the NLL of every token but the first.

    Beyond what the base model itself needs, memory is the hidden states [batch, n, hidden] and one slice of
    logits. Under ZeRO-3 the base model and the head are each called as modules exactly once per forward,
    whatever the length, so ranks with texts of different lengths gather the same weights in the same order.
    """

    def __init__(self, model: PreTrainedModel, compiled: bool = True) -> None:
        """compiled: whether torch.compile may make the loss on a GPU."""
        super().__init__()
        self.model, self.compiled = model, compiled

    def forward(self, input_ids: Tensor, **model_inputs: Any) -> Tensor:
        """NLL in nats of tokens 1 to n - 1: float32 [batch, n - 1].

        input_ids: int64 [batch, n]. Rows padded on the right need no mask, since attention is causal; what is
        returned at their padding means nothing. `model_inputs` (attention_mask, ...) go to the base model.
        """
        hidden = base_model(self.model)(input_ids=input_ids, use_cache=False, **model_inputs)[0]
        return self.score(hidden[:, :-1], input_ids[:, 1:])

    def score(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """NLL of `targets` [batch, m], each after the token whose hidden state is in `hidden` [batch, m, hidden]."""
        head = self.model.get_output_embeddings()
        with scoring_head(head, targets, self.model.config, self.compiled):
            return head(hidden)


@contextmanager
def scoring_head(head: nn.Module, targets: Tensor, config: PretrainedConfig, compiled: bool = True) -> Iterator[None]:
    """For one call, `head` maps hidden states [batch, m, hidden] to the NLL [batch, m] of `targets` [batch,
    m], in float32.

    Only its forward is replaced, so hooks on the module (ZeRO-3 gathers its weight in one) run once around
    all slices. config: the model's, which says what happens to logits after the head. compiled: as in NllScorer.
    """
    project, transform = head.forward, _logit_transform(config)

    def score(hidden: Tensor) -> Tensor:
        nll = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        start, step = 0, 1  # one position tells how many logits a position has
        while start < targets.shape[1]:
            part = slice(start, start + step)
            logits = transform(project(hidden[:, part]))
            fused = compiled and _takes_fused(logits)
            nll[:, part] = _nll(logits, targets[:, part], fused)
            start += step
            step = _positions_at_once(logits, fused)
        return nll

    replaced = head.__dict__.get("forward")  # Accelerate's device hooks keep theirs on the instance
    head.forward = score
    try:
        yield
    finally:
        del head.forward
        if replaced is not None:
            head.forward = replaced


def _positions_at_once(logits: Tensor, fused: bool) -> int:
    """The length of a slice, from the logits [batch, m, vocab] of another one."""
    larger = LARGER_ON_GPU if fused else 1
    return max(1, min(larger * SLICE_POSITIONS, larger * SLICE_LOGITS // logits[:, 0].numel()))


def _nll(logits: Tensor, targets: Tensor, fused: bool) -> Tensor:
    """Cross-entropy per token, in float32: logits [batch, m, vocab], targets [batch, m] -> [batch, m]."""
    loss = _fused_loss() if fused else _loss
    return loss(logits.flatten(0, 1), targets.to(logits.device).flatten()).view_as(targets)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    sums = log_sums(logits)
    if sums is not None:
        return (sums - _chosen(logits, targets)).float()
    cached = CACHED_LOGITS * torch.get_num_threads() if logits.device.type == "cpu" else logits.numel()
    positions = max(1, cached // logits.shape[-1])
    parts = zip(logits.split(positions), targets.split(positions))
    return torch.cat([F.cross_entropy(some.float(), those, reduction="none") for some, those in parts])


def _takes_fused(logits: Tensor) -> bool:
    return logits.is_cuda and has_triton()


@lru_cache(maxsize=1)
def _fused_loss() -> Callable[[Tensor, Tensor], Tensor]:
    """`_loss` in one kernel that reads the logits as they are and writes no copy of them."""

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return logits.float().logsumexp(-1) - _chosen(logits, targets)

    return compile_whole(loss)


def _chosen(logits: Tensor, targets: Tensor) -> Tensor:
    """The logit of each target, float32 [m]: logits [m, vocab], targets [m]."""
    return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1).float()


def _logit_transform(config: PretrainedConfig) -> Callable[[Tensor], Tensor]:
    """The change of a family's logits after the head: Granite divides, HyperCLOVA X and Cohere multiply, Gemma 2
    caps.
    """
    scale, scaling = getattr(config, LOGIT_SCALE, None) or 1.0, getattr(config, LOGITS_SCALING, None) or 1.0
    scale *= scaling if config.model_type == "hyperclovax" else 1 / scaling
    cap = getattr(config, LOGIT_CAP, None)

    def transform(logits: Tensor) -> Tensor:
        logits = logits.float() * scale if scale != 1.0 else logits
        return cap * torch.tanh(logits.float() / cap) if cap else logits

    return transform
