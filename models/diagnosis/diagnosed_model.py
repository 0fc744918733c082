"""A model that measures its own attention while it reads: hooks on its attention modules, nothing else is touched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..attention.config import AttentionLayer
from ..converting.wrappers import base_model
from ..model_base import family_of
from .layers import attention_layers, attention_modules, decoder_layers
from .measure import ProjectedText, measure_attention
from .plan import Plan


@dataclass
class Measurement:
    """The measurements of one text, layer by layer: `measure_attention`'s arrays, and hidden states.

    hidden: float32 `[<= num_hidden, hidden size]` per layer: the hidden states behind it, as Transformers' own
    `hidden_states` has them (but for its last, which a norm follows there).
    """

    attention: list[dict[str, np.ndarray]] = field(default_factory=list)
    hidden: list[np.ndarray] = field(default_factory=list)

    def arrays(self) -> dict[str, np.ndarray]:
        """Stacked: each with an axis of layers in front."""
        stacked = {name: np.stack([layer[name] for layer in self.attention]) for name in self.attention[0]}
        return stacked | {"hidden": np.stack(self.hidden)}


class DiagnosedModel(nn.Module):
    """Wraps a causal LM of a supported family, converted or not; `forward` gives a Measurement per text.

    layers: which are measured. at_once: call each projection once per forward, whatever the length, as ZeRO-3 needs
    it: ranks with texts of different lengths then gather the same weights in the same order. It costs the memory of one
    layer's queries, keys and values.
    """

    def __init__(self, model: PreTrainedModel, plan: Plan, layers: Sequence[int], at_once: bool = False) -> None:
        super().__init__()
        self.model, self.plan, self.layers, self.at_once = model, plan, layers, at_once

    @torch.no_grad()
    def forward(self, input_ids: Tensor, lengths: Sequence[int]) -> list[Measurement]:
        """input_ids: int64 `[batch, n]`, padded on the right; lengths: the real tokens of each row."""
        measurements = [Measurement() for _ in lengths]
        modules, decoders = attention_modules(self.model), decoder_layers(self.model)
        attending = attention_layers(self.model, input_ids.shape[1])
        handles = []
        for index in self.layers:
            measure = self._measuring(attending[index], lengths, measurements)
            handles.append(modules[index].register_forward_pre_hook(measure, with_kwargs=True))
            handles.append(decoders[index].register_forward_hook(self._keeping(lengths, measurements)))
        try:
            base_model(self.model)(input_ids=input_ids, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return measurements

    def _measuring(self, layer: AttentionLayer, lengths: Sequence[int], measurements: list[Measurement]) -> Callable:
        project = family_of(self.model.config).project

        def before_attention(module: nn.Module, args: tuple, kwargs: dict) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            projected = project(module, hidden) if self.at_once else None
            for row, (length, measurement) in enumerate(zip(lengths, measurements)):
                part = hidden[row : row + 1, :length]
                own = projected and tuple(x[row : row + 1] for x in projected[:3])
                text = ProjectedText(lambda columns: project(module, columns), part, own)
                measurement.attention.append(measure_attention(text, layer, self.plan))

        return before_attention

    def _keeping(self, lengths: Sequence[int], measurements: list[Measurement]) -> Callable:
        def after_layer(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            for row, (length, measurement) in enumerate(zip(lengths, measurements)):
                kept = hidden[row, : min(length, self.plan.num_hidden)]
                measurement.hidden.append(kept.to("cpu", torch.float32, copy=True).numpy())

        return after_layer
