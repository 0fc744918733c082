"""What `models/assumptions.py` and the families say of Transformers, checked against the release that is installed.

This file fails first when a release changes something. Each test is one assumption; its name says which.
"""

import inspect
from pathlib import Path

import pytest
import torch
import transformers
from transformers import DynamicCache, GenerationMixin
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.generation import MaxLengthCriteria
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from models.assumptions import (
    ATTENTION_MASK,
    BATCHING,
    BEYOND,
    CACHE_METHODS,
    CACHE_NAMES,
    CRITERIA,
    LAYER_CACHE_NAMES,
    LOGITS_TO_KEEP,
    OLDEST,
    OUTPUT_CACHE,
    POSITION_IDS,
    PREDEFINED_LENGTH,
    PREPARE,
    ROPE,
    ROTARY,
    UNUSED_BY_ATTENTION,
    cache_name,
    cache_of,
    forward_names,
    with_cache,
)
from models.attention.config import LambdaConfig
from models.attention.decode.cache import LambdaCache, LambdaLayer
from models.attention.positions import AlibiPositions
from models.converting.wrappers import text_model
from models.decode_graph import CapturedSteps, DecodeGraph
from models.model_base import FAMILIES, convert_model, extend_vanilla_positions
from models.scoring.nll_scorer import NllScorer
from tests.models.every_type import EVERY_TYPE, HYBRIDS, STATIC_TYPES, empty_cache, rounding, types
from tests.tiny_models import PRETRAINING_LENGTH, tiny_input_ids, tiny_model, type_of

pytestmark = pytest.mark.core

ALIBI = ("bloom", "falcon", "falcon:separate_heads", "mpt")
ROTARY_TYPES = types(leave_out=(*ALIBI, "codegen", "gptj", "jamba", "lfm2_moe", "nemotron_h"))
CONFIG, WIDE = LambdaConfig(8, 3, 8), LambdaConfig(64, 4, 64)
IDS = tiny_input_ids(2, 40)
REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.txt"


@torch.no_grad()
def logits(model, ids=IDS, **inputs) -> torch.Tensor:
    return model(ids, **inputs).logits


def close(found: torch.Tensor, expected: torch.Tensor, model_type: str | None = None) -> None:
    bound = 1e-5 * rounding(model_type) * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=bound)


def attending(model_type: str) -> int:
    """The layers of the tiny model that attend."""
    return 1 if model_type in HYBRIDS and model_type != "falcon_h1" else 2


def handed_over(model) -> list[dict]:
    """What the attention modules of an unconverted model are given in a forward with a cache, and in `generate`."""
    given = []

    def note(module, args, kwargs):
        names = list(inspect.signature(type(module).forward).parameters)[1:]
        given.append(dict(zip(names, args)) | kwargs)

    for module in FAMILIES[model.config.model_type].attention_modules(text_model(model)):
        module.register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        model(IDS, attention_mask=torch.ones_like(IDS), use_cache=True, output_hidden_states=True)
        model.generate(IDS, max_new_tokens=2, num_beams=2, use_cache=True, pad_token_id=0)
    return given


class TestVersions:
    def test_the_range_is_that_of_the_requirements(self):
        assert f"\ntransformers>={OLDEST},<{BEYOND}\n" in REQUIREMENTS.read_text(encoding="utf-8")

    def test_this_release_is_within_it(self):
        release = tuple(map(int, transformers.__version__.split(".")[:2]))
        assert tuple(map(int, OLDEST.split("."))) <= release < tuple(map(int, BEYOND.split(".")))


class TestCacheArgument:
    @EVERY_TYPE
    def test_models_base_models_and_outputs_call_it_alike(self, model_type):
        model = tiny_model(model_type)
        assert cache_name(model) == cache_name(text_model(model)) == OUTPUT_CACHE
        with torch.no_grad():
            assert isinstance(cache_of(model(IDS, use_cache=True)), DynamicCache)
            assert cache_of(model(IDS, use_cache=False)) is None

    @EVERY_TYPE
    def test_a_converted_model_gives_the_logits_of_the_last_tokens_alone(self, model_type):
        model = convert_model(tiny_model(model_type), CONFIG)
        found = logits(model, **{LOGITS_TO_KEEP: 3})
        assert found.shape[1] == 3
        close(found, logits(model)[:, -3:])

    @EVERY_TYPE
    def test_layers_hand_it_to_attention_under_one_of_the_names(self, model_type):
        for given in handed_over(tiny_model(model_type)):
            caches = [given[name] for name in LAYER_CACHE_NAMES if given.get(name) is not None]
            assert len(caches) == 1 and isinstance(caches[0], DynamicCache)

    @pytest.mark.parametrize("name", CACHE_NAMES)
    @pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt", "gpt_neox"])
    def test_a_base_model_takes_either_name_once_converted(self, model_type, name):
        model, cache = convert_model(tiny_model(model_type), CONFIG), LambdaCache(CONFIG, 2)
        with torch.no_grad():
            parts = [text_model(model)(part, **{name: cache})[0] for part in IDS.split(11, dim=1)]
            close(torch.cat(parts, 1), text_model(model)(IDS)[0])

    @pytest.mark.filterwarnings("ignore:.*past_key_values.*deprecated:FutureWarning")
    @pytest.mark.parametrize("name", sorted({"past_key_values", OUTPUT_CACHE}))
    @EVERY_TYPE
    def test_a_model_takes_past_key_values_and_this_releases_name(self, model_type, name):
        model = convert_model(tiny_model(model_type), CONFIG)
        cache = empty_cache(model)
        parts = [logits(model, part, **{name: cache}) for part in IDS.split(11, dim=1)]
        close(torch.cat(parts, 1), logits(model), model_type)

    @EVERY_TYPE
    def test_outputs_have_the_fields_of_the_unconverted_model(self, model_type):
        model, options = tiny_model(model_type), {"use_cache": True, "output_hidden_states": True}
        with torch.no_grad():
            plain = model(IDS, **options)
            try:
                plain_tuple = model(IDS, use_cache=True, return_dict=False)
            except AttributeError:
                pytest.skip("the vanilla model gives no tuples in this release of Transformers")
            convert_model(model, CONFIG)
            ours, our_tuple = model(IDS, **options), model(IDS, use_cache=True, return_dict=False)
        assert list(ours) == list(plain) and len(our_tuple) == len(plain_tuple)
        assert [state.shape for state in ours.hidden_states] == [state.shape for state in plain.hidden_states]
        assert type(our_tuple[1]) is type(ours[OUTPUT_CACHE]) is LambdaCache


class TestAttentionModules:
    @EVERY_TYPE
    def test_are_made_of_the_parts_that_the_family_uses(self, model_type):
        model, family = tiny_model(model_type), FAMILIES[type_of(model_type)]
        modules = family.attention_modules(text_model(model))
        assert len(modules) == attending(model_type)
        assert family.output in family.parts or family.finish is not None
        convert_model(model, CONFIG)  # raises for another part

    @EVERY_TYPE
    def test_are_given_what_is_known_and_nothing_else(self, model_type):
        family = FAMILIES[type_of(model_type)]
        known = UNUSED_BY_ATTENTION | set(LAYER_CACHE_NAMES) | {"hidden_states", *family.given}
        for given in handed_over(tiny_model(model_type)):
            assert {name for name, value in given.items() if value is not None} <= known

    @EVERY_TYPE
    def test_are_given_a_mask_of_four_dimensions_as_it_is(self, model_type):
        model, mask, seen = tiny_model(model_type), torch.ones(1, 1, 1, 1, dtype=torch.bool), []
        family, base = FAMILIES[type_of(model_type)], text_model(model)
        if family.instead:  # unconverted, they build a bias as wide as the mask
            convert_model(model, CONFIG)
        for module in family.attention_modules(base):
            module.register_forward_pre_hook(
                lambda module, args, kwargs: seen.append(kwargs[ATTENTION_MASK]), with_kwargs=True
            )
        with torch.no_grad():
            base(IDS, **({} if family.instead else {ATTENTION_MASK: mask}))
        assert len(seen) == attending(model_type) and all(given.numel() == 1 for given in seen)

    @pytest.mark.parametrize("model_type", types(within=("bloom",)))
    def test_are_given_in_turn_what_the_family_says(self, model_type):
        given, model = [], tiny_model(model_type)
        for module in FAMILIES[model_type].attention_modules(text_model(model)):
            module.register_forward_pre_hook(lambda module, args: given.append(args))
        logits(model)
        assert [len(args) - 1 for args in given] == [len(FAMILIES[model_type].given)] * 2

    @EVERY_TYPE
    def test_compute_what_the_unconverted_ones_do_within_the_window(self, model_type):
        """That is, projections, their order, scale and positions are where the family says."""
        model = tiny_model(model_type)
        expected = logits(model)
        close(logits(convert_model(model, WIDE)), expected, model_type)


class TestPositions:
    @pytest.mark.parametrize("model_type", ROTARY_TYPES)
    def test_rotary_families_keep_theirs_in_one_module_of_the_base_model(self, model_type):
        model = tiny_model(model_type)
        rotary = dict(text_model(model).named_children())[ROTARY]
        parameters = getattr(model.config, ROPE)
        kinds = {name: kind for name, kind in parameters.items() if isinstance(kind, dict)} or {None: parameters}
        for name, kind in kinds.items():
            assert kind["rope_type"] in {"default", *ROPE_INIT_FUNCTIONS} and kind["rope_theta"] > 1
            if kind["rope_type"] == "default":
                by_kind = {} if name is None else {"layer_type": name}
                config = model.config.per_layer_config[name] if model_type == "gemma4_text" else model.config
                inv_freq, scaling = type(rotary).compute_default_rope_parameters(config, **by_kind)
                held = getattr(rotary, "inv_freq" if name is None else f"{name}_inv_freq")
                torch.testing.assert_close(inv_freq, held.cpu())
                assert scaling == 1.0

    def test_a_rotary_module_tells_its_type_and_follows_the_longest_text(self):
        rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
        rotary = text_model(tiny_model(**{ROPE: rope})).rotary_emb
        assert rotary.rope_type == "dynamic"
        before, last = rotary.inv_freq.clone(), torch.tensor([[4 * PRETRAINING_LENGTH]])
        rotary(last.float(), last)
        assert (rotary.inv_freq != before).any()

    def test_every_other_rope_type_is_a_function_of_the_configuration(self):
        assert {"linear", "dynamic", "yarn", "longrope", "llama3"} <= ROPE_INIT_FUNCTIONS.keys()
        for compute in ROPE_INIT_FUNCTIONS.values():
            assert list(inspect.signature(compute).parameters)[:3] == ["config", "device", "seq_len"]

    def test_gpt_j_and_codegen_have_a_table_of_positions_and_mpt_one_of_biases(self):
        for model_type in ("codegen", "gptj", "mpt"):
            ids = tiny_input_ids(1, 3 * PRETRAINING_LENGTH)
            with pytest.raises((IndexError, RuntimeError)):
                logits(tiny_model(model_type), ids)
            assert logits(extend_vanilla_positions(tiny_model(model_type)), ids).isfinite().all()

    @EVERY_TYPE
    def test_these_and_no_others_have_alibi(self, model_type):
        positions = FAMILIES[type_of(model_type)].positions(text_model(tiny_model(model_type)), 0, 8)
        assert isinstance(positions, AlibiPositions) == (model_type in ALIBI)


class TestCacheClasses:
    def test_a_layer_defines_all_that_the_base_class_asks_for(self):
        assert not inspect.isabstract(LambdaLayer) and issubclass(LambdaLayer, CacheLayerMixin)
        assert CacheLayerMixin.__abstractmethods__ <= set(dir(LambdaLayer))

    @pytest.mark.parametrize("method", CACHE_METHODS)
    def test_what_is_called_on_a_cache_goes_to_its_layers(self, method):
        assert callable(getattr(Cache, method)) and callable(getattr(LambdaLayer, method))

    def test_an_empty_dynamic_cache_can_be_refitted(self):
        cache = DynamicCache()
        assert cache.layers == [] and cache.offloading is False and cache.layer_class_to_replicate is not None
        with torch.no_grad():
            tiny_model()(IDS, **{OUTPUT_CACHE: cache})
        assert [layer.keys.shape for layer in cache.layers] == [layer.values.shape for layer in cache.layers]
        assert cache.layers[0].keys.shape[2] == IDS.shape[1]

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"do_sample": True, "top_k": 5},
            {"num_beams": 3},
            {"num_return_sequences": 2, "do_sample": True},
            {"prefill_chunk_size": 7},
        ],
        ids=["greedy", "sampling", "beams", "several", "chunks"],
    )
    def test_generate_asks_a_cache_for_nothing_that_is_not_known(self, options, monkeypatch):
        asked, own = set(), LambdaCache.__getattribute__

        def note(cache, name):
            if "transformers/generation" in inspect.currentframe().f_back.f_code.co_filename:
                asked.add(name)
            return own(cache, name)

        monkeypatch.setattr(LambdaCache, "__getattribute__", note)
        model = convert_model(tiny_model(), CONFIG)
        cache = LambdaCache(CONFIG, 2)
        model.generate(IDS, max_new_tokens=4, pad_token_id=0, eos_token_id=None, **options, **{OUTPUT_CACHE: cache})
        assert asked and asked <= {
            *CACHE_METHODS,
            "is_compileable",
            "is_linear",
            "is_croppable",
            "_is_user_defined",
            "layers",
            "__class__",
        }


@EVERY_TYPE
def test_generate_uses_the_cache_and_gives_what_whole_forwards_give(model_type):
    model = convert_model(tiny_model(model_type), CONFIG)
    found = model.generate(IDS, max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None)
    expected = IDS
    for _ in range(5):
        expected = torch.cat([expected, logits(model, expected)[:, -1:].argmax(-1)], 1)
    assert torch.equal(found, expected)


@STATIC_TYPES
def test_a_static_step_gives_what_an_ordinary_one_gives(model_type):
    model, cache = convert_model(tiny_model(model_type), CONFIG), LambdaCache(CONFIG, 2)
    logits(model, IDS[:, :20], **with_cache(model, cache))
    graph = DecodeGraph(model, cache)
    found = torch.cat([graph.step(IDS[:, place : place + 1]) for place in range(20, 40)], 1)
    close(found, logits(model)[:, 20:])


@EVERY_TYPE
def test_the_nll_counts_what_the_family_does_to_its_logits(model_type):
    model = tiny_model(model_type)
    expected = logits(model).float().log_softmax(-1)[:, :-1].gather(-1, IDS[:, 1:, None])[..., 0]
    with torch.no_grad():
        torch.testing.assert_close(NllScorer(model)(IDS), -expected, rtol=1e-5, atol=1e-5)


@STATIC_TYPES
def test_single_tokens_of_generate_go_through_the_models_own_forward_by_name(model_type):
    """Which `CapturedSteps` stands in for: it finds tokens, cache and padding among named arguments."""
    model = convert_model(tiny_model(model_type), LambdaConfig(8, 2, 8))
    steps = CapturedSteps(model)
    with steps:
        model.generate(tiny_input_ids(2, 9), max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert steps.taken == 4 and OUTPUT_CACHE in CausalLMOutputWithPast.__dataclass_fields__


@EVERY_TYPE
def test_base_models_take_positions_but_for_two(model_type):
    assert (POSITION_IDS in forward_names(text_model(tiny_model(model_type)))) == (model_type not in ("bloom", "mpt"))


def test_generate_warns_of_a_length_and_begins_to_batch_where_it_did():
    for name in (CRITERIA, BATCHING, PREPARE):
        assert callable(getattr(GenerationMixin, name))
    assert BATCHING in inspect.getsource(GenerationMixin.continuous_batching_context_manager)
    assert BATCHING not in inspect.getsource(GenerationMixin.generate)
    assert hasattr(MaxLengthCriteria(10, 5), PREDEFINED_LENGTH)
