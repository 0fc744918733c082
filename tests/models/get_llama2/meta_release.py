"""Tiny models as Meta ships Llama 2: weights by Meta's names, params.json, shards, a sentencepiece tokenizer.

Written from Meta's description of the model, apart from what it tests: the names, the cuts and the forward are its own.
"""

import json
import math
from pathlib import Path

import torch
from sentencepiece import SentencePieceTrainer
from torch import Tensor, nn

TEXT = Path(__file__).resolve().parents[3] / "README.md"
CUT_BY_ROWS = ("wq", "wk", "wv", "w1", "w3", "output")
CUT_BY_COLUMNS = ("wo", "w2", "tok_embeddings")
PARAMS = {"dim": 32, "n_layers": 2, "n_heads": 4, "multiple_of": 16, "norm_eps": 1e-5, "vocab_size": -1}
FFN_DIM = 96  # of PARAMS: 2/3 of 4 x 32 is 85, and the next multiple of 16 is 96


def write_tokenizer(path: Path, **overrides) -> Path:
    """A small sentencepiece model, trained as Llama's was; `overrides` are options of the trainer."""
    options = {
        "model_type": "bpe",
        "vocab_size": 600,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "minloglevel": 2,
    }
    with open(path, "wb") as model:
        SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT.read_text(encoding="utf-8").split("\n")),
            model_writer=model,
            **options | overrides,
        )
    return path


def random_weights(params: dict, vocab_size: int, ffn_dim: int) -> dict[str, Tensor]:
    """Whole float32 tensors by Meta's names; norms near 1, matrices from N(0, 0.2²)."""
    generator = torch.Generator().manual_seed(0)
    dim = params["dim"]
    keys = params.get("n_kv_heads", params["n_heads"]) * (dim // params["n_heads"])
    shapes = {"tok_embeddings": (vocab_size, dim), "norm": (dim,), "output": (vocab_size, dim)}
    for layer in range(params["n_layers"]):
        attention = {"wq": (dim, dim), "wk": (keys, dim), "wv": (keys, dim), "wo": (dim, dim)}
        forward = {"w1": (ffn_dim, dim), "w2": (dim, ffn_dim), "w3": (ffn_dim, dim)}
        shapes |= {f"layers.{layer}.attention.{name}": shape for name, shape in attention.items()}
        shapes |= {f"layers.{layer}.feed_forward.{name}": shape for name, shape in forward.items()}
        shapes |= {f"layers.{layer}.{name}": (dim,) for name in ("attention_norm", "ffn_norm")}
    noise = {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {f"{name}.weight": value + (value.dim() == 1) for name, value in noise.items()}


def write_model(folder: Path, params: dict, weights: dict[str, Tensor], shards: int = 1) -> Path:
    """params.json and consolidated.*.pth, each shard's tensors views of one storage, as Meta's are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    for number in range(shards):
        share = {name: _share(name, whole, number, shards) for name, whole in weights.items()}
        share["rope.freqs"] = torch.zeros(params["dim"] // params["n_heads"] // 2)
        torch.save(_in_one_storage(share), folder / f"consolidated.{number:02d}.pth")
    return folder


def _share(name: str, whole: Tensor, number: int, shards: int) -> Tensor:
    part = name.split(".")[-2]
    if part in CUT_BY_ROWS:
        return whole.chunk(shards, dim=0)[number]
    return whole.chunk(shards, dim=1)[number] if part in CUT_BY_COLUMNS else whole


def _in_one_storage(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
    pieces = flat.split([tensor.numel() for tensor in tensors.values()])
    return {name: piece.view(tensors[name].shape) for name, piece in zip(tensors, pieces)}


def meta_logits(params: dict, weights: dict[str, Tensor], input_ids: Tensor) -> Tensor:
    """Logits `[n, vocab]` of token ids `[n]`, step by step as in llama/model.py of Meta's release."""
    eps = params["norm_eps"]
    hidden = weights["tok_embeddings.weight"][input_ids]
    for layer in range(params["n_layers"]):
        prefix = f"layers.{layer}."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        hidden = hidden + _attention(params, own, _norm(hidden, own["attention_norm.weight"], eps))
        hidden = hidden + _feed_forward(own, _norm(hidden, own["ffn_norm.weight"], eps))
    return _norm(hidden, weights["norm.weight"], eps) @ weights["output.weight"].T


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def _feed_forward(own: dict[str, Tensor], x: Tensor) -> Tensor:
    w1, w2, w3 = (own[f"feed_forward.w{number}.weight"] for number in (1, 2, 3))
    return (nn.functional.silu(x @ w1.T) * (x @ w3.T)) @ w2.T


def _attention(params: dict, own: dict[str, Tensor], x: Tensor) -> Tensor:
    heads, key_heads = params["n_heads"], params.get("n_kv_heads", params["n_heads"])
    query, key, value = (x @ own[f"attention.w{name}.weight"].T for name in "qkv")
    query = _rotated(query.view(len(x), heads, -1), params)
    key = _rotated(key.view(len(x), key_heads, -1), params).repeat_interleave(heads // key_heads, dim=1)
    value = value.view(len(x), key_heads, -1).repeat_interleave(heads // key_heads, dim=1)
    scores = torch.einsum("ihd,jhd->hij", query, key) / math.sqrt(query.shape[-1])
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, float("-inf")).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, value).flatten(1) @ own["attention.wo.weight"].T


def _rotated(x: Tensor, params: dict) -> Tensor:
    """Neighbours are the real and imaginary part of one number, turned by position x frequency. `[n, heads, d]`."""
    frequencies = params.get("rope_theta", 10000.0) ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])
    angles = torch.outer(torch.arange(len(x)).float(), frequencies)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.view_as_real(turned).flatten(-2)
