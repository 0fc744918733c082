"""Every tensor of a Llama: its name in Meta's files and in Transformers, and how Meta cuts it over shards."""

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor

from .meta_params import MetaParams


@dataclass(frozen=True)
class Part:
    """One tensor.

    meta, hf: its names. shape: of the whole. cut: the dimension that is cut over the shards, None where every shard
    has the whole. heads: how many heads the rows of a rotary projection make up, 0 for other tensors.
    """

    meta: str
    hf: str
    shape: tuple[int, ...]
    cut: int | None
    heads: int = 0

    def shard_shape(self, shards: int) -> tuple[int, ...] | None:
        """The shape in one of so many shards; None if the tensor cannot be cut so."""
        if self.cut is None:
            return self.shape
        size, rest = divmod(self.shape[self.cut], shards)
        return None if rest else (*self.shape[: self.cut], size, *self.shape[self.cut + 1 :])

    def in_hf_order(self, whole: Tensor) -> Tensor:
        """Rotary pairs, side by side in Meta's rows of a head, become its two halves: `apply_rotary_pos_emb`."""
        if not self.heads:
            return whole
        return rearrange(whole, "(head pair two) columns -> (head two pair) columns", head=self.heads, two=2)


def groups(params: MetaParams) -> list[list[Part]]:
    """All tensors: one group a layer, then what is outside the layers."""
    return [*(_layer(params, layer) for layer in range(params.n_layers)), _outside(params)]


def _layer(params: MetaParams, layer: int) -> list[Part]:
    """Meta's wo and w2 are `RowParallelLinear`, cut along their inputs; the other matrices are cut along their rows."""
    dim, ffn, key_rows = params.dim, params.ffn_dim, params.n_kv_heads * params.head_dim
    parts = [
        ("attention.wq", "self_attn.q_proj", (dim, dim), 0, params.n_heads),
        ("attention.wk", "self_attn.k_proj", (key_rows, dim), 0, params.n_kv_heads),
        ("attention.wv", "self_attn.v_proj", (key_rows, dim), 0),
        ("attention.wo", "self_attn.o_proj", (dim, dim), 1),
        ("feed_forward.w1", "mlp.gate_proj", (ffn, dim), 0),
        ("feed_forward.w2", "mlp.down_proj", (dim, ffn), 1),
        ("feed_forward.w3", "mlp.up_proj", (ffn, dim), 0),
        ("attention_norm", "input_layernorm", (dim,), None),
        ("ffn_norm", "post_attention_layernorm", (dim,), None),
    ]
    return [
        Part(f"layers.{layer}.{meta}.weight", f"model.layers.{layer}.{hf}.weight", *rest) for meta, hf, *rest in parts
    ]


def _outside(params: MetaParams) -> list[Part]:
    table = (params.vocab_size, params.dim)
    return [
        Part("tok_embeddings.weight", "model.embed_tokens.weight", table, 1),
        Part("norm.weight", "model.norm.weight", (params.dim,), None),
        Part("output.weight", "lm_head.weight", table, 0),
    ]
