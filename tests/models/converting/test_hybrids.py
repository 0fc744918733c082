"""Models of which some layers carry a recurrent state: their cache holds it, and nothing changes it unseen.

What they share with every type is in `test_every_type.py`.
"""

import pytest
import torch
from torch import Tensor

from models.assumptions import ATTENTION_MASK, OUTPUT_CACHE, with_cache
from models.attention.config import LambdaConfig
from models.attention.decode.cache_state import branch_cache, cache_tensors, repeat_rows, restore_cache
from models.attention.decode.recurrent import EmptyLayer, LambdaRecurrentLayer, RecurrentLayer
from models.attention.positions import NoPositions
from models.converting.family import check_shared
from models.converting.wrappers import text_model
from models.decode_graph import CapturedSteps, DecodeGraph
from models.diagnosis.layers import attention_modules
from models.errors import SharedError
from models.model_base import FAMILIES, convert_model, empty_cache, extend_vanilla_positions, revert_model
from models.scoring.stream_scorer import StreamScorer
from tests.models.every_type import HYBRIDS, types
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

EVERY_HYBRID = pytest.mark.parametrize("model_type", types(within=HYBRIDS))
SOME = pytest.mark.parametrize("model_type", types(within=("falcon_h1", "jamba", "lfm2", "nemotron_h", "qwen3_next")))
LAMBDA = LambdaConfig(12, 3, 12)
IDS = tiny_input_ids(2, 60)
PARTS = (20, 1, 1, 25, 13)
CLOSE = 1e-4
"""Of the largest logit; a state that is lost changes logits by more than a hundredth."""


@torch.no_grad()
def logits(model, ids: Tensor = IDS, **inputs) -> Tensor:
    return model(ids, **inputs).logits


def read(model, ids: Tensor, cache, parts=PARTS) -> Tensor:
    return torch.cat([logits(model, part, **with_cache(model, cache)) for part in ids.split(list(parts), 1)], 1)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=CLOSE * expected.abs().max().item())


def both_kinds(model_type):
    """The vanilla model and the converted one."""
    return extend_vanilla_positions(tiny_model(model_type)), convert_model(tiny_model(model_type), LAMBDA)


@EVERY_HYBRID
def test_a_vanilla_model_reads_on_from_its_own_cache(model_type):
    """Jamba's own modules begin anew where they read several tokens, and Bamba's positions do."""
    model = extend_vanilla_positions(tiny_model(model_type))
    close(read(model, IDS, empty_cache(model)), logits(model))


@EVERY_HYBRID
def test_rows_that_begin_in_different_chunks_give_what_they_give_alone(model_type):
    model = convert_model(tiny_model(model_type), LAMBDA)
    ids, mask = IDS.clone(), torch.ones_like(IDS)
    ids[0, 32:], mask[0, :32], cache, found = IDS[0, :28], 0, empty_cache(model), []
    for first in range(0, 60, 15):
        inputs = {ATTENTION_MASK: mask[:, : first + 15], **with_cache(model, cache)}
        found.append(logits(model, ids[:, first : first + 15], **inputs))
    found = torch.cat(found, 1)
    close(found[0, 32:], logits(model, IDS[:1, :28])[0])
    close(found[1], logits(model, IDS[1:])[0])


@EVERY_HYBRID
def test_a_cache_is_kept_as_tensors_branched_and_repeated(model_type):
    for model in both_kinds(model_type):
        whole, cache, other = read(model, IDS, empty_cache(model)), empty_cache(model), empty_cache(model)
        read(model, IDS[:, :30], cache, [30])
        tensors = {name: tensor.clone() for name, tensor in cache_tensors(cache).items()}
        branch = branch_cache(cache)
        close(read(model, IDS[:, 30:], branch, [9, 21]), whole[:, 30:])
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in cache_tensors(cache).items())
        read(model, IDS[:, :1].flip(1), other, [1])
        restore_cache(other, tensors, 30)
        close(read(model, IDS[:, 30:], other, [9, 21]), whole[:, 30:])

        cache.reorder_cache(torch.tensor([1]))
        repeat_rows(cache, [0, 0])
        close(read(model, IDS[1:, 30:].expand(2, -1), cache, [30]), whole[1:, 30:].expand(2, -1, -1))


@SOME
def test_a_stream_that_is_interrupted_and_resumed_equals_one_that_is_not(model_type):
    for model in both_kinds(model_type):
        scorer, other = StreamScorer(model), StreamScorer(model)
        with torch.no_grad():
            scorer(IDS[:, :20])
            kept = [scorer.state(row).wait() for row in range(2)]
            expected = scorer(IDS[:, 20:])
            other.restore(kept, 20, torch.device("cpu"))
            torch.testing.assert_close(other(IDS[:, 20:]), expected, rtol=0, atol=0)
        growth = other.bytes_per_token(torch.device("cpu"))
        assert (growth == 0) == hasattr(model.config, "lambda_attention")


@SOME
def test_beams_take_their_states_with_them(model_type):
    model = convert_model(tiny_model(model_type), LAMBDA)
    options = {"max_new_tokens": 8, "num_beams": 3, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    assert torch.equal(model.generate(IDS, **options), model.generate(IDS, use_cache=False, **options))


@EVERY_HYBRID
def test_text_behind_padding_behind_text_is_refused(model_type):
    model, mask = convert_model(tiny_model(model_type), LAMBDA), torch.ones_like(IDS)
    mask[0, 30:40] = 0
    with pytest.raises(ValueError, match="row 0 has text behind padding"):
        logits(model, **{ATTENTION_MASK: mask})
    cache = empty_cache(model)
    logits(model, IDS[:, :40], **{ATTENTION_MASK: mask[:, :40]}, **with_cache(model, cache))
    cache.reorder_cache(torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="row 1 has text behind padding"):
        logits(model, IDS[:, :1], **with_cache(model, cache))
    cache.batch_select_indices(torch.tensor([0]))
    close(logits(model, IDS[1:, 40:], **with_cache(model, cache)), logits(model)[1:, 40:])


@pytest.mark.parametrize("model_type", ["lfm2", "bamba"])
def test_padding_in_front_is_refused_where_a_projection_has_a_bias(model_type):
    name = {"lfm2": "conv_bias", "bamba": "mamba_proj_bias"}[model_type]
    model, mask = convert_model(tiny_model(model_type, **{name: True}), LAMBDA), torch.ones_like(IDS)
    expected = logits(model)
    mask[0, 50:] = 0
    close(logits(model, **{ATTENTION_MASK: mask})[0, :50], expected[0, :50])
    with pytest.raises(ValueError, match="row 0 has padding in front"):
        logits(model, **{ATTENTION_MASK: mask.flip(1)})


@EVERY_HYBRID
def test_a_vanilla_model_refuses_padding_that_it_would_take_up(model_type):
    model, mask = extend_vanilla_positions(tiny_model(model_type)), torch.tensor([[0], [1]])
    with pytest.raises(ValueError, match="as a single column"):
        logits(model, IDS[:, :1], **{ATTENTION_MASK: mask}, **with_cache(model, empty_cache(model)))


@EVERY_HYBRID
def test_a_cache_of_an_interrupted_forward_is_refused(model_type):
    model = convert_model(tiny_model(model_type), LAMBDA)
    for module in model.base_model.lambda_conversion.recurrent.modules:
        cache = empty_cache(model)
        read(model, IDS[:, :9], cache, [9])
        handle = module.register_forward_hook(_fail, prepend=True)
        with pytest.raises(KeyboardInterrupt):
            logits(model, IDS[:, 9:20], **with_cache(model, cache))
        handle.remove()
        with pytest.raises(ValueError, match="interrupted"):
            logits(model, IDS[:, 9:20], **with_cache(model, cache))


def _fail(*_: object) -> None:
    raise KeyboardInterrupt


@SOME
def test_what_cannot_be_done_is_refused_in_a_sentence(model_type):
    model = convert_model(tiny_model(model_type), LAMBDA)
    cache = empty_cache(model)
    read(model, IDS[:, :9], cache, [9])
    with pytest.raises(NotImplementedError, match="cannot give tokens back"):
        cache.crop(-1)
    cache.crop(0)
    with pytest.raises(ValueError, match="recurrent states"):
        DecodeGraph(model, cache)
    with pytest.raises(SharedError, match=f"a diagnosis of {model_type} would pass over"):
        attention_modules(model)
    with pytest.raises(SharedError, match="leave --sequence_parallel"):
        check_shared(FAMILIES[model_type], text_model(model), LAMBDA)


@SOME
def test_captured_steps_leave_it_to_the_ordinary_forward(model_type):
    model = convert_model(tiny_model(model_type), LAMBDA)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with CapturedSteps(model) as steps:
        found = model.generate(IDS, **options)
    assert steps.taken == 0 and torch.equal(found, model.generate(IDS, **options))


@SOME
def test_a_stream_begun_in_inference_mode_goes_on_outside_of_it(model_type):
    model = convert_model(tiny_model(model_type), LAMBDA)
    cache = empty_cache(model)
    with torch.inference_mode():
        model(IDS[:, :30], **with_cache(model, cache))
        cache.reorder_cache(torch.tensor([0, 1]))
    close(read(model, IDS[:, 30:], cache, [1, 29]), logits(model)[:, 30:])


@EVERY_HYBRID
def test_reverting_leaves_no_trace_on_recurrent_modules(model_type):
    model = tiny_model(model_type)
    modules = FAMILIES[model_type].states(model.base_model)
    before = [set(vars(module)) for module in modules]
    revert_model(convert_model(model, LAMBDA))
    assert [set(vars(module)) for module in modules] == before
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in modules)


@pytest.mark.parametrize(
    ("model_type", "without"),
    [
        ("granitemoehybrid", {"position_embedding_type": None}),
        ("olmo_hybrid", {"rope_parameters": {"rope_type": "default", "rope_theta": None}}),
    ],
)
def test_checkpoints_may_do_without_positions(model_type, without):
    model = tiny_model(model_type, **without)
    expected = logits(model)
    close(logits(convert_model(model, LambdaConfig(60, 3, 60))), expected)
    (positions,) = model.base_model.lambda_conversion.positions
    assert isinstance(positions, NoPositions)


def test_layers_are_what_the_model_needs_and_the_log_says_which(caplog):
    with caplog.at_level("INFO"):
        model = convert_model(tiny_model("nemotron_h"), LAMBDA)
    assert "Λ-attention in 1 of 4 layers, a recurrent state as without it in layers 0, 3" in caplog.text
    output = model(IDS)
    kinds = [type(layer) for layer in output[OUTPUT_CACHE].layers]
    assert kinds[0] is kinds[3] is RecurrentLayer and kinds[1] is EmptyLayer
    falcon = convert_model(tiny_model("falcon_h1"), LAMBDA)
    assert {type(layer) for layer in falcon(IDS)[OUTPUT_CACHE].layers} == {LambdaRecurrentLayer}


def test_a_cache_of_another_kind_of_model_is_refused():
    plain, falcon = convert_model(tiny_model(), LAMBDA), convert_model(tiny_model("falcon_h1"), LAMBDA)
    cache = plain(IDS)[OUTPUT_CACHE]
    with pytest.raises(ValueError, match="LambdaRecurrentLayer"):
        falcon(IDS, **with_cache(falcon, cache))
