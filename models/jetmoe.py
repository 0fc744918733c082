"""JetMoe: experts project the queries and the output; query heads of one expert are as many as key heads."""

from torch import Tensor, nn

from .converting.family import Family, rotary_positions

Routing = tuple[Tensor, ...]
"""Which expert projects which token."""


def _project(module: nn.Module, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor, Routing]:
    """The query heads that share a key head side by side, one of each expert."""
    query, _, routing = module.experts.map(hidden_states)
    query = query.unflatten(-1, (module.num_key_value_heads, -1)).transpose(2, 3).flatten(2, 3)
    key, value = (x.unflatten(-1, (-1, module.head_dim)) for x in module.kv_proj(hidden_states).chunk(2, dim=-1))
    return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), routing


def _reduce(module: nn.Module, attention: Tensor, routing: Routing) -> Tensor:
    heads = attention.unflatten(-1, (module.num_key_value_heads, module.top_k, module.head_dim))
    return module.experts.reduce(heads.transpose(2, 3).flatten(3), routing)


def _without_weights(module: nn.Module, output: Tensor) -> tuple[Tensor, None, None]:
    """Nor what the router said, which Transformers takes from the router itself."""
    return output, None, None


FAMILIES = {
    "jetmoe": Family(
        attention_modules=lambda base: [layer.self_attention for layer in base.layers],
        parts=frozenset({"experts", "kv_proj"}),
        project=_project,
        output=None,
        scale=lambda module: module.scaling,
        positions=rotary_positions,
        finish=_reduce,
        returns=_without_weights,
    )
}
