"""Meta's params.json, checked, and the LlamaConfig that means the same."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import LlamaConfig

from ..errors import UserError

REQUIRED = ("dim", "n_layers", "n_heads")
WHOLE = (*REQUIRED, "n_kv_heads", "vocab_size", "multiple_of")
REAL = ("ffn_dim_multiplier", "norm_eps", "rope_theta")
OF_THE_RUN = ("max_batch_size", "max_seq_len")  # sizes of Meta's own buffers, nothing of the model
FROM_TOKENIZER = -1


@dataclass(frozen=True)
class MetaParams:
    """The model that a params.json describes, in Meta's names; what the file leaves out has Meta's defaults.

    vocab_size: rows of the embedding; -1 stands for the tokenizer's number of pieces.
    """

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int = FROM_TOKENIZER
    multiple_of: int = 256
    ffn_dim_multiplier: float = 1.0
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def ffn_dim(self) -> int:
        """Two thirds of 4 dim, times the multiplier, rounded up: `FeedForward` in Meta's llama/model.py."""
        hidden = int(self.ffn_dim_multiplier * int(2 * (4 * self.dim) / 3))
        return -(-hidden // self.multiple_of) * self.multiple_of

    def hf_config(self, dtype: str, max_position_embeddings: int, **ids: int) -> LlamaConfig:
        """dtype: of the written weights. ids: `bos_token_id` and `eos_token_id`."""
        return LlamaConfig(
            architectures=["LlamaForCausalLM"],
            dtype=dtype,
            vocab_size=self.vocab_size,
            hidden_size=self.dim,
            intermediate_size=self.ffn_dim,
            num_hidden_layers=self.n_layers,
            num_attention_heads=self.n_heads,
            num_key_value_heads=self.n_kv_heads,
            max_position_embeddings=max_position_embeddings,
            rms_norm_eps=self.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": float(self.rope_theta)},
            **ids,
        )


def read_params(path: Path, pieces: int) -> MetaParams:
    """The checked content of `path`. pieces: the size of the tokenizer. Raises UserError."""
    fields = {name: value for name, value in _read_object(path).items() if value is not None}
    fields = {name: value for name, value in fields.items() if name not in OF_THE_RUN}
    _check_fields(path, fields)
    if fields.get("vocab_size", FROM_TOKENIZER) == FROM_TOKENIZER:
        fields["vocab_size"] = pieces
    params = MetaParams(**{"n_kv_heads": fields["n_heads"], **fields})
    _check_sizes(path, params, pieces)
    return params


def _read_object(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): download it again") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): download it again") from None
    if not isinstance(fields, dict):
        raise UserError(f"{path} holds no JSON object: download it again")
    return fields


def _check_fields(path: Path, fields: dict[str, Any]) -> None:
    missing = [name for name in REQUIRED if name not in fields]
    if missing:
        raise UserError(f'{path} has no "{missing[0]}": download it again')
    unknown = sorted(fields.keys() - {*WHOLE, *REAL})
    if unknown:
        raise UserError(f'{path}: "{unknown[0]}" is nothing that Llama 2 has: give the weights of a Llama 2 model')
    for name, value in fields.items():
        kinds, wanted = ((int,), "a whole number") if name in WHOLE else ((int, float), "a number")
        absent = name == "vocab_size" and value == FROM_TOKENIZER
        if type(value) not in kinds or not (0 < value < float("inf") or absent):
            raise UserError(f'{path}: "{name}" is {json.dumps(value)} where {wanted} above 0 is expected')


def _check_sizes(path: Path, params: MetaParams, pieces: int) -> None:
    if params.dim % (2 * params.n_heads):
        raise UserError(f'{path}: "dim" {params.dim} does not divide into {params.n_heads} heads of even size')
    if params.n_heads % params.n_kv_heads:
        raise UserError(f'{path}: "n_heads" {params.n_heads} is no multiple of "n_kv_heads" {params.n_kv_heads}')
    if params.vocab_size < pieces:
        raise UserError(f'{path}: "vocab_size" {params.vocab_size} is below the {pieces} pieces of tokenizer.model')
