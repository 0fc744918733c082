"""The model as lm-eval asks it: lm-eval's own numbers if it is vanilla, those of direct forwards if it is converted."""

import copy
from unittest import mock

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.attention.bands.config import BandsConfig
from models.get_model import ModelSpec, get_model
from models.lambda_attention import LambdaConfig
from models.llama import convert_llama_model
from models.model_base import convert_model
from models.scoring.stream_scorer import StreamScorer
from tests.scripts.lm_harness.lm_tasks import CHOICES, FIRST, GENERATED, TEXTS, WINDOW, language_model, requests
from utils.errors import UserError

pytest.importorskip("lm_eval")
from lm_eval.models.huggingface import HFLM

CONFIG = LambdaConfig(WINDOW, FIRST)
OVER_ALL_TOKENS = (
    BandsConfig("self_extend", window=8, group=4),
    BandsConfig("dca", chunk=12, window=4),
    BandsConfig("rerope", window=9, log_scale=20),
    BandsConfig("leaky_rerope", window=6, factor=4.0, log_scale=0),
)
PAIRS = [(text, choice) for text in TEXTS for choice in CHOICES]
PROMPTS = [(text, {"until": ["~"], "max_gen_toks": GENERATED}) for text in TEXTS]
CLOSE = {"abs": 2e-3, "rel": 1e-5}
"""Of sums of a hundred NLL of about 7 nats."""


@pytest.fixture(scope="module")
def loaded(tiny_llama_dir):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(tiny_llama_dir)


@pytest.fixture(scope="module")
def converted(loaded):
    return convert_llama_model(copy.deepcopy(loaded[0]), WINDOW, FIRST)


def theirs(loaded, batch_size=1, max_length=None):
    """lm-eval's own class around the vanilla model."""
    return HFLM(pretrained=loaded[0], tokenizer=loaded[1], batch_size=batch_size, max_length=max_length)


@torch.no_grad()
def by_hand(model, context, scored):
    """The log-likelihood of tokens after others, and whether they are the likeliest, from the logits of one forward."""
    logits = model(torch.tensor([context + scored])).logits[0, len(context) - 1 : -1].double()
    targets = torch.tensor(scored)
    chosen = logits.log_softmax(-1).gather(-1, targets[:, None])
    return chosen.sum().item(), bool((logits.argmax(-1) == targets).all())


def same(found, expected):
    assert [likely for _, likely in found] == [likely for _, likely in expected]
    assert [number for number, _ in found] == pytest.approx([number for number, _ in expected], **CLOSE)


@pytest.mark.parametrize("max_length", [24, 64, 200])
@pytest.mark.parametrize("batch_size, chunk", [(1, None), (4, None), (4, 5)])
def test_a_vanilla_model_has_lm_evals_own_numbers(loaded, tiny_llama_dir, max_length, batch_size, chunk):
    ours = language_model(tiny_llama_dir, None, chunk, batch_size, max_length)
    expected = theirs(loaded, max_length=max_length)
    same(ours.loglikelihood(requests(*PAIRS)), expected.loglikelihood(requests(*PAIRS)))
    texts = requests(*((text,) for text in TEXTS))
    rolling = expected.loglikelihood_rolling(texts)
    assert ours.loglikelihood_rolling(texts) == pytest.approx(rolling, **CLOSE)
    assert ours.generate_until(requests(*PROMPTS)) == expected.generate_until(requests(*PROMPTS))


@pytest.mark.parametrize("batch_size, chunk", [(1, None), (5, None), (5, 7), (2, 1)])
def test_continuations_of_a_converted_model_are_those_of_its_forward(
    tiny_llama_dir, loaded, converted, batch_size, chunk
):
    ours = language_model(tiny_llama_dir, CONFIG, chunk, batch_size)
    encode = loaded[1].encode
    expected = [by_hand(converted, encode(context), encode(scored)) for context, scored in PAIRS]
    same(ours.loglikelihood(requests(*PAIRS)), expected)


def test_the_likeliest_continuation_is_found_so(tiny_llama_dir, loaded, converted):
    ours = language_model(tiny_llama_dir, CONFIG, chunk=7, batch_size=2)
    context = loaded[1].encode(TEXTS[1])
    with torch.no_grad():
        likeliest = converted(torch.tensor([context])).logits[0, -1].argmax().item()
    pairs = [(None, context, [likeliest]), (None, context, [likeliest, 9]), (None, context, [(likeliest + 1) % 200])]
    same(ours._loglikelihood_tokens(pairs), [by_hand(converted, context, scored) for _, context, scored in pairs])
    assert [likely for _, likely in ours._loglikelihood_tokens(pairs)] == [True, False, False]


@pytest.mark.parametrize("chunk", [None, 7])
def test_a_document_is_read_in_one_pass_through_the_bounded_cache(tiny_llama_dir, loaded, converted, chunk):
    ours = language_model(tiny_llama_dir, CONFIG, chunk, batch_size=3)
    ids = [[1, *loaded[1].encode(text)] for text in TEXTS]
    found = ours.loglikelihood_rolling(requests(*((text,) for text in TEXTS)))
    assert len(ids[1]) > 3 * WINDOW  # far beyond it
    assert found == pytest.approx([by_hand(converted, one[:1], one[1:])[0] for one in ids], **CLOSE)
    streamed = StreamScorer(converted)
    with torch.no_grad():
        parts = [streamed(torch.tensor([ids[1][place : place + 10]])) for place in range(0, len(ids[1]), 10)]
    assert found[1] == pytest.approx(-sum(part.double().sum().item() for part in parts), **CLOSE)
    assert ours.counts.windowed == 0
    assert ours.loglikelihood_rolling(requests(("",))) == [0.0]


def test_below_the_window_a_converted_model_is_the_vanilla_one(tiny_llama_dir, loaded):
    ours = language_model(tiny_llama_dir, LambdaConfig(500, FIRST), chunk=9, batch_size=4)
    expected = theirs(loaded, max_length=500)
    same(ours.loglikelihood(requests(*PAIRS)), expected.loglikelihood(requests(*PAIRS)))
    texts = requests(*((text,) for text in TEXTS))
    assert ours.loglikelihood_rolling(texts) == pytest.approx(expected.loglikelihood_rolling(texts), **CLOSE)
    assert ours.generate_until(requests(*PROMPTS)) == expected.generate_until(requests(*PROMPTS))


@pytest.mark.parametrize("batch_size, chunk", [(1, None), (3, None), (3, 6)])
def test_what_is_generated_is_what_the_model_generates_alone(tiny_llama_dir, loaded, converted, batch_size, chunk):
    expected = []
    for text in TEXTS:
        ids = loaded[1](text, return_tensors="pt").input_ids
        output = converted.generate(ids, max_new_tokens=GENERATED, do_sample=False, pad_token_id=0)
        expected.append(loaded[1].decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    ours = language_model(tiny_llama_dir, CONFIG, chunk, batch_size)
    assert ours.generate_until(requests(*PROMPTS)) == expected
    first = expected[1][:1]
    stopping = (TEXTS[1], {"until": [first], "max_gen_toks": GENERATED})
    assert ours.generate_until(requests(stopping)) == [""]


@pytest.mark.parametrize("config", OVER_ALL_TOKENS, ids=str)
def test_methods_over_all_tokens_are_asked_alike(tiny_llama_dir, loaded, config):
    model, encode = convert_model(copy.deepcopy(loaded[0]), config), loaded[1].encode
    ours = language_model(tiny_llama_dir, config, chunk=7, batch_size=3)
    same(ours.loglikelihood(requests(*PAIRS)), [by_hand(model, encode(text), encode(one)) for text, one in PAIRS])
    ids = [[1, *encode(text)] for text in TEXTS]
    found = ours.loglikelihood_rolling(requests(*((text,) for text in TEXTS)))
    assert found == pytest.approx([by_hand(model, one[:1], one[1:])[0] for one in ids], **CLOSE)
    expected = []
    for text in TEXTS:
        prompt = loaded[1](text, return_tensors="pt").input_ids
        output = model.generate(prompt, max_new_tokens=GENERATED, do_sample=False, pad_token_id=0)
        expected.append(loaded[1].decode(output[0, prompt.shape[1] :], skip_special_tokens=True))
    assert ours.generate_until(requests(*PROMPTS)) == expected


@pytest.mark.parametrize("scaling", ["linear", "ntk", "yarn"])
def test_scaled_positions_have_lm_evals_numbers_of_a_model_scaled_alike(tiny_llama_dir, loaded, scaling):
    spec = ModelSpec(str(tiny_llama_dir), rope_scaling=scaling, rope_factor=4.0)
    ours = language_model(tiny_llama_dir, chunk=7, batch_size=3, rope_scaling=scaling, rope_factor=4.0)
    scaled = get_model(spec).model
    expected = theirs((scaled, loaded[1]), max_length=ours.max_length)
    same(ours.loglikelihood(requests(*PAIRS)), expected.loglikelihood(requests(*PAIRS)))
    assert ours.generate_until(requests(*PROMPTS)) == expected.generate_until(requests(*PROMPTS))
    vanilla = theirs(loaded, max_length=ours.max_length).loglikelihood(requests(*PAIRS))
    assert max(abs(one - other) for (one, _), (other, _) in zip(ours.loglikelihood(requests(*PAIRS)), vanilla)) > 0.01


def test_the_head_reads_what_is_scored_alone_and_equal_inputs_once(tiny_llama_dir):
    ours = language_model(tiny_llama_dir, CONFIG, chunk=7)
    read, seen = [], []
    ours.model.lm_head.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    ours.model.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    context = list(range(10, 50))
    found = ours._loglikelihood_tokens([(None, context, [word]) for word in (60, 61, 62)])
    assert len({number for number, _ in found}) == 3
    assert read == [1] and sum(seen) == len(context) and max(seen) <= 7
    seen.clear()
    ours.generate_until(requests((TEXTS[1], {"until": [], "max_gen_toks": 2})))
    assert sum(seen) == len(ours.tok_encode(TEXTS[1])) + 1 and max(seen) <= 7  # its end is read by `generate`


def test_cut_requests_and_windows_are_counted(tiny_llama_dir):
    ours = language_model(tiny_llama_dir, CONFIG, max_length=30)
    lengths = [len(ours.tok_encode(text)) for text in TEXTS]
    assert lengths[0] < 25 < 31 < lengths[2] < lengths[1]
    ours.loglikelihood(requests(*((text, " the") for text in TEXTS)))
    assert vars(ours.counts) == {"requests": 3, "truncated": 2, "windowed": 0}
    ours.generate_until(requests(*PROMPTS))
    assert vars(ours.counts) == {"requests": 6, "truncated": 4, "windowed": 0}
    ours.loglikelihood_rolling(requests(*((text,) for text in TEXTS)))
    assert vars(ours.counts) == {"requests": 9, "truncated": 4, "windowed": 2}


def test_lengths_that_leave_no_room_are_one_sentence(tiny_llama_dir):
    ours = language_model(tiny_llama_dir, CONFIG, max_length=4)
    with pytest.raises(UserError, match=r"--max_length 4 has no room for a prompt: task 'own' generates 4 tokens"):
        ours.generate_until(requests(*PROMPTS))
    with pytest.raises(UserError, match=r"--max_length 4 is shorter than a continuation of 9 tokens"):
        ours._loglikelihood_tokens([(None, [1], list(range(3, 12)))])


def test_no_token_is_put_at_an_end(tiny_llama_dir):
    """A tokenizer that begins and ends each text with a token: texts begin so, and end where they end."""
    from tokenizers.processors import TemplateProcessing

    ours = language_model(tiny_llama_dir, CONFIG)
    plain = ours.tok_encode("the cat")
    ours.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert ours.tok_encode("the cat") == [1, *plain]
    assert ours.tok_encode("<s>the cat") == [1, *plain]
    assert ours.tok_encode("the cat", add_special_tokens=False) == plain
    assert ours.tok_batch_encode(["the cat"])[0].tolist() == [[1, *plain]]


def test_an_unknown_token_is_named(tiny_llama_dir):
    ours = language_model(tiny_llama_dir, CONFIG)
    with mock.patch.dict(ours._runnable.identity, vocab_size=5), pytest.raises(UserError, match="--tokenizer_path"):
        ours.tok_encode("the cat")
