"""The NLL of every token of a text without ever holding all logits: the LM head works on slices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel

from ..assumptions import LOGIT_CAP, LOGIT_SCALE, LOGITS_SCALING

SLICE_POSITIONS = 1024
SLICE_LOGITS = 2**25  # float32 logits alive at once: 128 MiB


class NllScorer(nn.Module):
    """Wraps a causal LM of Transformers; `forward` gives the NLL of every token but the first.

    Beyond what the base model itself needs, memory is the hidden states [batch, n, hidden] and one slice of
    logits. Under ZeRO-3 the base model and the head are each called as modules exactly once per forward,
    whatever the length, so ranks with texts of different lengths gather the same weights in the same order.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, **model_inputs: Any) -> Tensor:
        """NLL in nats of tokens 1 to n - 1: float32 [batch, n - 1].

        input_ids: int64 [batch, n]. Rows padded on the right need no mask, since attention is causal; what is
        returned at their padding means nothing. `model_inputs` (attention_mask, ...) go to the base model.
        """
        targets = input_ids[:, 1:]
        head = self.model.get_output_embeddings()
        hidden = self.model.base_model(input_ids=input_ids, use_cache=False, **model_inputs)[0]
        with scoring_head(head, targets, self.model.config):
            return head(hidden[:, :-1])


@contextmanager
def scoring_head(head: nn.Module, targets: Tensor, config: PretrainedConfig) -> Iterator[None]:
    """For one call, `head` maps hidden states [batch, m, hidden] to the NLL [batch, m] of `targets` [batch,
    m], in float32.

    Only its forward is replaced, so hooks on the module (ZeRO-3 gathers its weight in one) run once around
    all slices. config: the model's, which says what happens to logits after the head.
    """
    project, transform = head.forward, _logit_transform(config)

    def score(hidden: Tensor) -> Tensor:
        nll = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        start, step = 0, 1  # one position tells how many logits a position has
        while start < targets.shape[1]:
            part = slice(start, start + step)
            logits = transform(project(hidden[:, part]))
            nll[:, part] = _nll(logits, targets[:, part])
            start += step
            step = max(1, min(SLICE_POSITIONS, SLICE_LOGITS // logits[:, 0].numel()))
        return nll

    replaced = head.__dict__.get("forward")  # Accelerate's device hooks keep theirs on the instance
    head.forward = score
    try:
        yield
    finally:
        del head.forward
        if replaced is not None:
            head.forward = replaced


def _nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy per token, in float32: logits [batch, m, vocab], targets [batch, m] -> [batch, m]."""
    logits = logits.float()
    return F.cross_entropy(logits.flatten(0, 1), targets.to(logits.device).flatten(), reduction="none").view_as(targets)


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
