"""Converted models within PEFT's, and adapters within converted models: each is as the vanilla model with them."""

import pytest
import torch
from torch import Tensor, nn

from models.assumptions import ATTENTION_MASK
from models.attention.config import LambdaConfig
from models.attention.decode.cache import LambdaCache
from models.decode_graph import DecodeGraph
from models.llama import convert_llama_model
from models.model_base import convert_model, is_converted, revert_model
from tests.seeing_models import seeing_model
from tests.tiny_models import tiny_input_ids, tiny_model

peft = pytest.importorskip("peft")
pytestmark = [
    pytest.mark.core,
    pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning"),  # which PEFT hands over
]

WIDE, NARROW = LambdaConfig(64, 4, 64), LambdaConfig(8, 3, 8)
IDS = tiny_input_ids(2, 30)
MASK = torch.ones_like(IDS)
MASK[0, :4] = 0
GREEDY = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
CAUSAL = {"task_type": "CAUSAL_LM"}
LORA = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"], **CAUSAL)
IA3 = peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], **CAUSAL)
PROMPT = peft.PromptTuningConfig(num_virtual_tokens=3, **CAUSAL)
PREFIX = peft.PrefixTuningConfig(num_virtual_tokens=3, **CAUSAL)


@torch.no_grad()
def logits(model: nn.Module, **inputs) -> Tensor:
    return model(input_ids=IDS, **inputs).logits


def close(found: Tensor, expected: Tensor, tolerance: float = 3e-6) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def adapted(model: nn.Module, method: peft.PeftConfig = LORA) -> nn.Module:
    """With random adapters, in eval mode, the same every time."""
    wrapped = peft.get_peft_model(model, method).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for name, parameter in wrapped.named_parameters():
            if any(part in name for part in ("lora_", "ia3_", "prompt_")):
                parameter.normal_(std=0.3)
    return wrapped


def converted(method: peft.PeftConfig, config: LambdaConfig, wrap_first: bool) -> nn.Module:
    if wrap_first:
        return convert_model(adapted(tiny_model(), method), config)
    return adapted(convert_model(tiny_model(), config), method)


@pytest.mark.parametrize("wrap_first", [True, False])
@pytest.mark.parametrize("method", [LORA, IA3, PROMPT], ids=["lora", "ia3", "prompt"])
def test_below_the_window_it_is_the_vanilla_model_with_its_adapters(method, wrap_first):
    vanilla, model = adapted(tiny_model(), method), converted(method, WIDE, wrap_first)
    expected = logits(vanilla)
    assert is_converted(model) and not is_converted(vanilla)
    assert (expected[:, -30:] - logits(tiny_model())).abs().max() > 0.1
    close(logits(model), expected)
    generated = model.generate(input_ids=IDS, **{ATTENTION_MASK: MASK}, **GREEDY)[:, -4:]
    alone = [vanilla.generate(input_ids=row[None], **GREEDY)[:, -4:] for row in (IDS[0, 4:], IDS[1])]
    assert torch.equal(generated, torch.cat(alone))  # PEFT has padding behind the prompt count as positions
    assert torch.equal(logits(revert_model(model)), expected) and not is_converted(model)


@pytest.mark.parametrize("wrap_first", [True, False])
def test_merged_adapters_give_what_unmerged_ones_give_beyond_the_window(wrap_first):
    model = converted(LORA, NARROW, wrap_first)
    apart = logits(model, **{ATTENTION_MASK: MASK})
    assert (apart - logits(adapted(tiny_model()), **{ATTENTION_MASK: MASK})).abs().max() > 0.1
    model.merge_adapter()
    close(logits(model, **{ATTENTION_MASK: MASK}), apart, 1e-5)
    model.unmerge_adapter()
    with model.disable_adapter():
        close(logits(model), logits(convert_model(tiny_model(), NARROW)), 1e-5)
    whole = model.merge_and_unload()
    assert is_converted(whole)
    close(logits(whole, **{ATTENTION_MASK: MASK}), apart, 1e-5)


def test_steps_settings_and_drop_ins_go_through():
    model = adapted(tiny_model())
    assert convert_llama_model(model, 8, 3) is model
    expected = logits(model)
    assert torch.equal(logits(convert_model(model)), expected)  # with the settings that it has
    graph = DecodeGraph(model, LambdaCache(NARROW, 2))
    for place in range(20):
        close(graph.step(IDS[:, place : place + 1])[:, 0], expected[:, place])


def test_a_text_model_within_one_that_sees_within_adapters():
    vanilla, model = adapted(seeing_model("llava")), convert_model(adapted(seeing_model("llava")), WIDE)
    close(logits(model), logits(vanilla))
    assert is_converted(model) and not is_converted(revert_model(model))


def test_keys_and_values_in_front_of_the_text_are_refused():
    with pytest.raises(ValueError, match="PREFIX_TUNING puts keys and values in front"):
        convert_model(adapted(tiny_model(), PREFIX), WIDE)
    with pytest.raises(ValueError, match="filled"):
        logits(converted(PREFIX, WIDE, wrap_first=False))
