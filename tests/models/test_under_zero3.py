"""One type of each kind of attention under DeepSpeed ZeRO-3, over two ranks that hold half of every weight each."""

import os

import pytest
import torch
import torch.distributed as dist

from models.assumptions import with_cache
from models.attention import norms
from models.attention.config import LambdaConfig
from models.attention.decode.cache import LambdaCache
from models.model_base import convert_model
from tests.rank_pool import rank_pool
from tests.tiny_models import tiny_input_ids, tiny_model
from utils.ranks.deepspeed import DeepSpeedSetup

os.environ.setdefault("DS_ACCELERATOR", "cpu")  # as the harness has it
deepspeed = pytest.importorskip("deepspeed")

RANKS = 2
CONFIG = LambdaConfig(12, 3, 12)
IDS = tiny_input_ids(1, 40)
SHARDED = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
SHARDED["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # else tiny weights stay whole
KINDS = (
    *("llama", "smollm3", "gemma2", "bitnet", "phi3", "granite_swa", "ministral3", "hunyuan_v1_dense", "diffllama"),
    *("beam", "bloom", "falcon", "falcon:grouped", "gpt_neox_japanese", "persimmon", "codegen", "mpt"),
)
"""Llama's; without positions; a soft cap; a norm behind; fused; a sink logit; queries that follow their position; norms
behind the rotation, whose weights the attention asks for; weights of the attention module; gates; ALiBi; a residual; a
bias that is given back; ...
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with rank_pool(tmp_path_factory.mktemp("ranks"), __name__, RANKS) as started:
        yield started


def read(model, base) -> torch.Tensor:
    """The logits of the text in two parts and a token, with a cache."""
    cache = LambdaCache(CONFIG, base.config.num_hidden_layers)
    return torch.cat([model(part, **with_cache(base, cache)).logits for part in IDS.split([25, 14, 1], dim=1)], 1)


def difference(group: dist.ProcessGroup, kind: str) -> tuple[float, int]:
    """Of the logits, relative to the largest; and the elements of weights that are held between forwards."""
    os.environ["LOCAL_RANK"] = str(dist.get_rank())
    deepspeed.ops.__compatible_ops__.clear()  # else a minute of compiling: shared memory is not what this is about
    model = convert_model(tiny_model(kind), CONFIG)
    expected = read(model, model)
    engine = DeepSpeedSetup(SHARDED, None).wrap(model)
    found = read(engine, model)
    held = sum(parameter.numel() for parameter in model.parameters())
    return ((found - expected).abs().max() / expected.abs().max()).item(), held


@pytest.mark.parametrize("kind", KINDS)
def test_sharded_weights_give_what_whole_ones_give(pool, kind):
    for off, held in pool.run(RANKS, difference, kind):
        kept = 32 if kind == "gpt_neox_japanese" else 0  # a bias that a module hands on, DeepSpeed leaves with it
        assert off < 1e-6 and held == kept


def texts_of_other_lengths(group: dist.ProcessGroup) -> float:
    """The largest difference of logits, relative, over texts of which each rank reads the longer one once."""
    os.environ["LOCAL_RANK"] = str(dist.get_rank())
    deepspeed.ops.__compatible_ops__.clear()
    norms.CACHED_FEATURES = 150  # so that they are cut, into more parts of a longer text
    model = convert_model(tiny_model("llama"), CONFIG)
    lengths = (10, 60, 33) if dist.get_rank() == 0 else (60, 10, 34)
    texts = [tiny_input_ids(1, length) for length in lengths]
    expected = [model(text).logits for text in texts]
    engine = DeepSpeedSetup(SHARDED, None).wrap(model)
    off = [(engine(text).logits - own).abs().max() / own.abs().max() for text, own in zip(texts, expected)]
    return max(off).item()


def test_ranks_read_texts_of_different_lengths(pool):
    assert max(pool.run(RANKS, texts_of_other_lengths)) < 1e-6
