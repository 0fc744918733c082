"""A text model within one that sees as well, or within a wrapper of torch."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from models.assumptions import ATTENTION_MASK, TOKEN_TYPES, with_cache
from models.attention.config import LambdaConfig
from models.attention.decode.cache import LambdaCache
from models.converting.wrappers import MASKING, SEEING, transformers_model
from models.decode_graph import DecodeGraph
from models.diagnosis.layers import attention_layers, decoder_layers
from models.llama import convert_llama_model
from models.loading.activations import bytes_per_token
from models.loading.vanilla import constant_rope_length
from models.model_base import (
    UnsupportedModelError,
    convert_model,
    family_of,
    is_converted,
    pretraining_length,
    revert_model,
)
from models.scoring.nll_scorer import NllScorer
from models.scoring.stream_scorer import StreamScorer
from tests.seeing_models import EVERY_SEEING_TYPE, seeing_config, seeing_model
from tests.tiny_models import PRETRAINING_LENGTH, tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

PAGE = Path(__file__).resolve().parents[3] / "docs" / "models.md"
WIDE, NARROW = LambdaConfig(64, 4, 64), LambdaConfig(8, 3, 8)
IDS = tiny_input_ids(2, 30)
MASK = torch.ones_like(IDS)
MASK[0, :4] = 0
GREEDY = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}


@torch.no_grad()
def logits(model: nn.Module, ids: Tensor = IDS, **inputs) -> Tensor:
    return model(input_ids=ids, **inputs).logits


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6 * expected.abs().max().item())


@EVERY_SEEING_TYPE
def test_text_alone_is_as_the_vanilla_model_reads_it_while_the_window_covers_it(model_type):
    model = seeing_model(model_type)
    vanilla, padded = logits(model), logits(model, **{ATTENTION_MASK: MASK})
    generated = model.generate(IDS, **{ATTENTION_MASK: MASK}, **GREEDY)
    assert convert_model(model, WIDE) is model and is_converted(model)
    close(logits(model), vanilla)
    close(logits(model, **{ATTENTION_MASK: MASK})[MASK.bool()], padded[MASK.bool()])
    assert torch.equal(model.generate(IDS, **{ATTENTION_MASK: MASK}, **GREEDY), generated)
    assert torch.equal(logits(revert_model(model)), vanilla) and not is_converted(model)


@EVERY_SEEING_TYPE
def test_beyond_it_chunks_rows_and_steps_agree_and_the_settings_are_saved(model_type, tmp_path):
    model = seeing_model(model_type)
    vanilla, whole = logits(model), logits(convert_model(model, NARROW))
    assert (whole - vanilla)[:, 8:].abs().max() > 1e-2 * vanilla.abs().max()
    cache, parts = LambdaCache(NARROW, 2), []
    for part in IDS.split([12, 1, 9, 8], dim=1):
        parts.append(logits(model, part, **with_cache(model, cache)))
    close(torch.cat(parts, 1), whole)
    ids = torch.cat([IDS[:, :4], IDS], 1)  # the first four are padding, and what they are counts for nothing
    mask = torch.ones_like(ids)
    mask[:, :4] = 0
    close(logits(model, ids, **{ATTENTION_MASK: mask})[:, 4:], whole)

    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert not is_converted(loaded)
    close(logits(convert_model(loaded)), whole)


@EVERY_SEEING_TYPE
def test_the_loss_is_that_of_its_own_logits_be_they_scaled_or_not(model_type):
    """A text model's own head may scale or cap its logits, and the whole model's not."""
    fields = ("logit_scale", "logits_scaling", "final_logit_softcapping")
    own = seeing_config(model_type).get_text_config()
    model = seeing_model(model_type, **{name: 0.3 for name in fields if hasattr(own, name)})
    expected = F.cross_entropy(logits(model)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten(), reduction="none")
    with torch.no_grad():
        torch.testing.assert_close(NllScorer(model)(IDS).flatten(), expected)


def test_the_tokens_of_an_image_are_tokens_among_tokens():
    model = seeing_model("llava")
    ids = IDS.clone()
    ids[:, 5:9] = model.config.image_token_id = 99  # four patches
    see = {"pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))}
    vanilla, blind = logits(model, ids, **see), logits(model, ids)
    assert (vanilla - blind).abs().max() > 1e-2
    generated = model.generate(ids, **see, **GREEDY)
    convert_model(model, WIDE)
    close(logits(model, ids, **see), vanilla)
    assert torch.equal(model.generate(ids, **see, **GREEDY), generated)


def test_images_that_attend_in_both_directions_are_refused_and_text_that_is_said_to_be_text_is_read():
    model, kinds = seeing_model("gemma3"), torch.zeros_like(IDS)
    vanilla = logits(model, **{TOKEN_TYPES: kinds})
    convert_model(model, WIDE)
    close(logits(model, **{TOKEN_TYPES: kinds}), vanilla)
    kinds[:, 5:9] = 1
    for read in (logits, lambda model, **inputs: model.generate(IDS, **inputs, **GREEDY)):
        with pytest.raises(ValueError, match="in both directions"):
            read(model, **{TOKEN_TYPES: kinds})
    with pytest.raises(ValueError, match="static"):
        model.generate(IDS, cache_implementation="static", **GREEDY)


def test_no_mask_is_made_where_the_whole_model_makes_them(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a mask was built")

    for name in ("sdpa", "eager"):
        monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, name, refuse)
    for model_type in MASKING:
        model = convert_model(seeing_model(model_type), WIDE)
        logits(model, **{ATTENTION_MASK: MASK})
        with pytest.raises(AssertionError, match="mask"):
            logits(revert_model(model), **{ATTENTION_MASK: MASK})


@pytest.mark.parametrize("text_type", ["mistral", "qwen3", "gpt_oss"])
def test_any_supported_text_model_will_do(text_type):
    model = seeing_model("llava", text_type)
    vanilla = logits(model)
    close(logits(convert_model(model, WIDE)), vanilla)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (lambda: seeing_config("llava", "gpt2"), "'gpt2'"),
        (lambda: seeing_config("paligemma"), "'paligemma': .*both directions"),
        (lambda: seeing_config("qwen2_vl", "qwen2"), "'qwen2_vl': .*three axes"),
    ],
    ids=["its text model", "its mask", "its positions"],
)
def test_what_is_not_supported_is_refused_by_name(config, named):
    with pytest.raises(UnsupportedModelError, match=named):
        family_of(config())


def test_everything_asks_the_text_model():
    config = seeing_config("llava", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    assert pretraining_length(config) == constant_rope_length(config) == PRETRAINING_LENGTH
    model = seeing_model("llava")
    assert bytes_per_token(model) > 0
    assert [layer.config for layer in attention_layers(model, 20)] == [LambdaConfig(20, 0, None)] * 2
    assert decoder_layers(model) == [*model.base_model.language_model.layers]

    assert convert_llama_model(model, 8, 3) is model
    whole, scorer = NllScorer(model), StreamScorer(model)
    with torch.no_grad():
        streamed = torch.cat([scorer(part) for part in IDS.split(10, dim=1)], 1)
        torch.testing.assert_close(streamed, whole(IDS), rtol=1e-5, atol=1e-5)
    graph, expected = DecodeGraph(model, LambdaCache(NARROW, 2)), logits(model)
    for place in range(20):
        close(graph.step(IDS[:, place : place + 1])[:, 0], expected[:, place])


def test_wrappers_of_torch_are_seen_through():
    model = tiny_model()
    wrapped = nn.DataParallel(model)
    assert transformers_model(wrapped) is model and not is_converted(wrapped)
    assert convert_model(wrapped, WIDE) is wrapped and is_converted(wrapped) and is_converted(model)
    assert not is_converted(revert_model(wrapped)) and not is_converted(model)


def test_the_list_of_the_docs_has_every_type_and_no_other():
    row = r"^\| reads images as well \(in `models/converting/wrappers\.py`\) \| ([^|]*) \|$"
    (listed,) = re.findall(row, PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed.split(", ")) == sorted(SEEING)
