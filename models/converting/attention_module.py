"""The forward of a converted attention module: one for all families."""

from dataclasses import replace

from torch import Tensor, nn
from transformers.cache_utils import Cache

from ..assumptions import attention_cache, handed_over_otherwise, unknown_argument
from ..attention.compiled import untraced
from ..attention.config import AttentionLayer
from ..attention.decode.counted import CountedLayer
from ..attention.inference import InferenceOnly
from ..attention.ragged import attend_batch
from ..attention.sequence.attend import attend_stretch
from ..attention.text_positions import text_positions


@untraced
def attention_forward(self: nn.Module, hidden_states: Tensor, *places, **inputs) -> tuple:
    """The forward of a converted attention module: hidden states `[B, n, hidden]` in and out, and no weights.

    places: what the family says is `given`. inputs: what Transformers hands over besides, by name. Raises TypeError
    for what Λ-attention does not know.
    """
    layer, conversion = _layer_now(self), self.lambda_conversion
    family, running = conversion.family, conversion.running
    if len(places) > len(family.given):
        raise unknown_argument(f"argument {1 + len(places)} without a name", type(self).__name__)
    cache = attention_cache(inputs, type(self).__name__)
    past = None if cache is None else _layer_of(cache, layer.layer_idx, self)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = query.to(value.dtype), key.to(value.dtype)  # under autocast norms leave them in float32
        if running.stretch is not None:
            return attend_stretch(query, key, value, layer, past, running.stretch)
        return attend_batch(query, key, value, layer, past, running.real)

    query, key, value, *rest = family.project(self, hidden_states)
    if family.place is not None:
        positions = text_positions(query, past, running.real, running.stretch)
        query = family.place(self, query, positions)
    merged = InferenceOnly.apply(attend, query, key, value).transpose(1, 2).flatten(2)
    if family.finish is not None:
        merged = family.finish(self, merged, *rest)
    output = merged if family.output is None else getattr(self, family.output)(merged)
    return (output, None) if family.returns is None else family.returns(self, output, *places)


def _layer_now(module: nn.Module) -> AttentionLayer:
    """Its layer, with the parameter that it has now: loading and offloading may have put another in its place."""
    find, layer = module.lambda_conversion.family.sink_logit, module.lambda_layer
    if find is not None and find(module) is not layer.sink_logit:
        layer = module.lambda_layer = replace(layer, sink_logit=find(module))
    return layer


def _layer_of(cache: Cache, layer_idx: int, module: nn.Module) -> CountedLayer:
    """Raises RuntimeError where the cache is not the one that the base model was given."""
    if layer_idx < len(cache.layers) and isinstance(cache.layers[layer_idx], CountedLayer):
        return cache.layers[layer_idx]
    raise RuntimeError(f"layer {layer_idx} is handed another cache than the model's: {handed_over_otherwise(module)}")
