"""Layers that attend within chunks of the text by themselves, as Llama 4's do, against Transformers' own attention.

Its layers without positions feel no distance, so masks alone make the vanilla model what a converted one is.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.assumptions import ATTENTION_MASK, OUTPUT_CACHE, with_cache
from models.attention.bands.cache import ChunkLayer
from models.attention.bands.config import BandsConfig, ChunksConfig
from models.attention.config import LambdaConfig
from models.attention.decode.cache import LambdaLayer
from models.attention.decode.cache_state import branch_cache, bytes_per_token, cache_tensors, restore_cache
from models.conversion import conversion_of
from models.converting.family import check_shared
from models.converting.wrappers import text_model
from models.decode_graph import CapturedSteps, DecodeGraph
from models.errors import SharedError
from models.model_base import FAMILIES, convert_model, revert_model
from models.scoring.nll_scorer import NllScorer
from models.scoring.stream_scorer import StreamScorer
from tests.models.every_type import empty_cache
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

CHUNK, TOKENS = 8, 90
LAMBDA = LambdaConfig(20, 3, 20)
IDS = tiny_input_ids(2, TOKENS)
KINDS = {
    "as released": {},
    "without norms": {"use_qk_norm": False},
    "without temperature": {"attn_temperature_tuning": False},
    "yarn": {
        "rope_parameters": {
            **{"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0},
            "original_max_position_embeddings": 16,
        }
    },
    "yarn without norms": {"use_qk_norm": False},
}
KINDS["yarn without norms"] |= KINDS["yarn"]
ROUNDED = 3e-5
"""Of the largest logit: a norm behind the rotation takes YaRN's factor out again but for what its epsilon is."""


def chunked_model(**changes):
    return tiny_model("llama4_text", **{"attention_chunk_size": CHUNK, **changes})


@torch.no_grad()
def logits(model, ids: Tensor = IDS, **inputs) -> Tensor:
    return model(ids, **inputs).logits


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def masks(chunk: int | None = CHUNK, config: LambdaConfig | None = LAMBDA) -> dict[str, dict[str, Tensor]]:
    """The mask of each kind of layer, as the vanilla model takes them; None for all of the text."""
    key, query = torch.arange(TOKENS), torch.arange(TOKENS)[:, None]
    within = torch.ones(TOKENS, TOKENS, dtype=torch.bool) if chunk is None else key // chunk == query // chunk
    lambda_shape = torch.ones_like(within)
    if config is not None:
        lambda_shape = (query - key < config.local_branch) | (key < config.global_branch)
    both = {"chunked_attention": within, "full_attention": lambda_shape}
    causal = {kind: ((key <= query) & mask)[None, None] for kind, mask in both.items()}
    return {ATTENTION_MASK: causal}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_other_layers_take_lambda_and_these_stay_as_they_are(changes):
    model = chunked_model(**changes)
    close(logits(model), logits(model, **masks(config=None)))  # that the masks are what the vanilla model does
    expected = logits(model, **masks())
    assert (expected - logits(model)).abs().max() > 1e-2 * expected.abs().max()
    close(logits(convert_model(model, LAMBDA)), expected, ROUNDED)


@pytest.mark.parametrize("chunk", [1, 7, 19])
def test_every_length_of_a_chunk_in_every_way_of_reading(chunk):
    model = chunked_model(attention_chunk_size=chunk)
    expected = logits(model, **masks(chunk))
    convert_model(model, LAMBDA)
    close(logits(model), expected)
    for lengths in ([30, 1, 1, 40, 1, 17], [14, 14, 14, 14, 14, 14, 6], [1] * TOKENS):
        cache = empty_cache(model)
        parts = [logits(model, part, **with_cache(model, cache)) for part in IDS.split(lengths, dim=1)]
        close(torch.cat(parts, 1), expected)
        assert cache.layers[0].keys.shape[2] == chunk and bytes_per_token(cache) == 0


def test_a_padded_row_gives_what_it_gives_alone_and_reads_on():
    """Chunks are counted from a row's first real token; rows then stand at different places of theirs."""
    model = chunked_model()
    expected = logits(model, **masks())
    convert_model(model, LAMBDA)
    ids, mask = torch.cat([IDS[:, :-20], IDS[:, :5]], 1), torch.ones(2, 75, dtype=torch.long)
    mask[0, :5], mask[1, 72:], ids[0, 5:] = 0, 0, IDS[0, :70]
    ids[1, 70:72] = IDS[1, 70:72]
    cache = empty_cache(model)
    first = logits(model, ids, **{ATTENTION_MASK: mask}, **with_cache(model, cache))
    close(first[0, 5:], expected[0, :70])
    close(first[1, :72], expected[1, :72])
    for step in range(15):
        token = torch.stack([IDS[0, 70 + step], IDS[1, 72 + step]])[:, None]
        found = logits(model, token, **with_cache(model, cache))
        close(found[:, 0], torch.stack([expected[0, 70 + step], expected[1, 72 + step]]))


def test_generate_gives_what_whole_forwards_give_and_beams_are_reordered():
    model = convert_model(chunked_model(), LAMBDA)
    options = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with CapturedSteps(model) as steps:
        generated = model.generate(IDS[:, :30], **options)
    assert steps.taken == 0  # ordinary forwards read them
    assert torch.equal(generated[:, 30:], logits(model, generated)[:, 29:-1].argmax(-1))
    cached, uncached = (model.generate(IDS, num_beams=3, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, uncached)


def filled(model, tokens: int):
    return model(IDS[:, :tokens], use_cache=True)[OUTPUT_CACHE]


@torch.no_grad()
def test_a_cache_is_branched_saved_restored_and_cropped():
    model = convert_model(chunked_model(), LAMBDA)
    expected = logits(model)
    restored = filled(model, 1)
    state = {name: tensor.clone() for name, tensor in cache_tensors(filled(model, 50)).items()}
    restore_cache(restored, state, 50)
    trunk = filled(model, 50)
    for cache in (branch_cache(trunk, room=40), restored, trunk):
        close(logits(model, IDS[:, 50:], **with_cache(model, cache)), expected[:, 50:])
    cropped = filled(model, CHUNK)
    cropped.crop(-3)
    close(logits(model, IDS[:, CHUNK - 3 :], **with_cache(model, cropped)), expected[:, CHUNK - 3 :])
    with pytest.raises(NotImplementedError, match="has read 9 tokens, more than a chunk of 8, has overwritten"):
        filled(model, CHUNK + 1).crop(-1)


def test_lambda_is_taken_where_it_is_asked_for_or_a_chunk_covers_its_window():
    model = chunked_model()
    assert conversion_of(convert_model(model, LAMBDA)).layer_configs == [ChunksConfig(CHUNK), LAMBDA]
    everywhere = LambdaConfig(20, 3, 20, window_layers="lambda")
    assert conversion_of(convert_model(model, everywhere)).layer_configs == [everywhere, everywhere]
    as_long = LambdaConfig(CHUNK, 3, CHUNK)
    assert conversion_of(convert_model(model, as_long)).layer_configs == [as_long, as_long]
    assert logits(convert_model(model, everywhere)).isfinite().all()


def test_they_stay_as_they_are_with_methods_over_all_tokens():
    """Which feel no distance either in layers without positions: the model stays as it is, but for its cache."""
    model = chunked_model()
    vanilla = logits(model)
    convert_model(model, BandsConfig("dca", chunk=12, window=5))
    cache = empty_cache(model)
    parts = [logits(model, part, **with_cache(model, cache)) for part in IDS.split([30, 1, 40, 19], dim=1)]
    close(torch.cat(parts, 1), vanilla)
    assert isinstance(cache.layers[0], ChunkLayer) and cache.layers[0].keys.shape[2] == CHUNK


def test_scores_of_chunks_and_of_single_tokens_are_those_of_all_logits():
    model = convert_model(chunked_model(), LAMBDA)
    expected = F.cross_entropy(logits(model)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten(), reduction="none")
    with torch.no_grad():
        close(NllScorer(model)(IDS).flatten(), expected)
        scorer = StreamScorer(model)
        close(torch.cat([scorer(part) for part in IDS.split([13, 1, 50, 26], dim=1)], 1).flatten(), expected)
        first, rows = StreamScorer(model), [0, 1]
        first(IDS[:, :50])
        states = [first.state(row).wait() for row in rows]
        assert first.bytes_per_token(torch.device("cpu")) == 0
        first.restore(states, 50, torch.device("cpu"))
        close(first(IDS[:, 50:]), expected.view(2, -1)[:, 49:])


def test_what_cannot_be_done_is_refused_and_the_log_says_which_layers_are_which(caplog):
    model = chunked_model(num_hidden_layers=4, no_rope_layers=[1, 1, 0, 1])
    with caplog.at_level("INFO"):
        convert_model(model, LAMBDA)
    assert "in 1 of 4 layers, chunks of their own (8 tokens) in layers 0-1, 3" in caplog.text
    cache = filled(model, 30)
    assert [type(layer) for layer in cache.layers[1:3]] == [ChunkLayer, LambdaLayer]
    with pytest.raises(ValueError, match="no step for layers that attend within chunks"):
        DecodeGraph(model, cache)
    family, everywhere = FAMILIES["llama4_text"], LambdaConfig(20, 3, 20, window_layers="lambda")
    with pytest.raises(SharedError, match="chunks of their own, which ranks cannot share out"):
        check_shared(family, text_model(model), LAMBDA)
    check_shared(family, text_model(model), everywhere)
    with pytest.raises(ValueError, match="made for ChunksConfig|made for a ChunkLayer"):
        logits(convert_model(revert_model(model), everywhere), IDS[:, :1], **with_cache(model, cache))
