"""A beginning that prompts share is read once, and every answer is the one that its prompt has alone."""

import pytest
import torch

from models.attention.config import LambdaConfig, TopK
from models.get_model import ModelSpec
from models.model_base import convert_model, extend_vanilla_positions
from scripts.downstream.runner import TaskRunner
from scripts.downstream.shared_prefill import branching_point, common_length, reason_to_read_alone
from scripts.harness.model import RunnableModel
from scripts.harness.model_arguments import ModelPlan
from tests.scripts.downstream.test_runner import example, options, runner
from tests.tiny_models import tiny_input_ids, tiny_model

CONFIG = LambdaConfig(16, 4, 16)
CONFIGS = {
    "lambda": CONFIG,
    "limit inside the window": LambdaConfig(16, 4, 9),
    "triangle": LambdaConfig(16, 4, 16, triangle_offset=0.5),
    "vanilla": None,
}
NEW = 8


def document(seed, length=60):
    return tiny_input_ids(1, length, seed)[0].tolist()


def question(seed, length):
    return tiny_input_ids(1, length, 1000 + seed)[0].tolist()


PROMPTS = [document(1) + question(seed, 3 + seed) for seed in range(5)]
PROMPTS += [document(2) + question(seed, 9 - seed) for seed in range(3)]
PROMPTS += [document(3)]


class Counted:
    """Answers of a runner to prompts in batches, the token ids that were generated, and how many tokens were read."""

    def __init__(self, runner: TaskRunner, batches):
        self.ids, self.read, self.lines = [], 0, []
        model = runner.generator.model
        generate = model.generate

        def recording(input_ids, **others):
            output = generate(input_ids, **others)
            self.ids += output[:, input_ids.shape[1] :].tolist()
            return output

        def counting(embeddings, args, output):
            if args[0].shape[1] > 1:
                self.read += int((args[0] != 0).sum())  # 0 is padding, and in no prompt

        model.generate = recording
        hook = model.get_input_embeddings().register_forward_hook(counting)
        for place, batch in enumerate(batches):
            examples = [example(index=index) for index in batch]
            prompts, coming = [PROMPTS[index] for index in batch], batches[place + 1 :]
            self.lines += runner.lines(examples, prompts, [[PROMPTS[index] for index in later] for later in coming])
        hook.remove()
        del model.generate


def counted(model, batches, shares, **flags) -> Counted:
    ours = runner(model, options(NEW, **flags), shares=shares)
    return Counted(ours, batches)


def cut(row):
    """Without the padding behind the end of a sequence, where others of the batch went on."""
    return row[: row.index(2) + 1] if 2 in row else row


def in_batches(size):
    """Documents in batches of at most so many questions."""
    return [
        [*questions[at : at + size]]
        for questions in (range(5), range(5, 8), [8])
        for at in range(0, len(questions), size)
    ]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt", "gpt_neox"])
def test_answers_are_those_of_each_prompt_alone(model_type, config, size):
    model = tiny_model(model_type)
    if CONFIGS[config] is not None:
        convert_model(model, CONFIGS[config])
    else:
        extend_vanilla_positions(model)
    alone = counted(model, in_batches(1), shares=False)
    shared = counted(model, in_batches(size), shares=True)
    assert len(alone.ids) == 9 and [cut(row) for row in shared.ids] == [cut(row) for row in alone.ids]
    assert [line["output"] for line in shared.lines] == [line["output"] for line in alone.lines]
    assert shared.read < 0.5 * alone.read


def test_a_document_is_read_once_and_every_line_says_what_it_was_spared():
    model = convert_model(tiny_model(), CONFIG)
    shared = counted(model, in_batches(1), shares=True)
    assert [line["shared_tokens"] for line in shared.lines] == [0, 60, 60, 60, 60, 0, 60, 60, 0]
    rest = sum(len(PROMPTS[index]) - 60 - 1 for index in range(8))  # `generate` reads the last token
    assert shared.read == 2 * 60 + rest + 60


def test_the_cache_is_held_no_longer_than_prompts_come_that_it_begins():
    model = convert_model(tiny_model(), CONFIG)
    ours = runner(model, options(NEW), shares=True)
    for index, held in ((0, 60), (1, 0)):
        ours.lines([example()], [PROMPTS[index]], [[PROMPTS[later]] for later in range(index + 1, 2)])
        assert len(ours.shared.ids) == held and (ours.shared.cache is None) == (not held)


def test_samples_are_those_of_each_prompt_alone():
    model = convert_model(tiny_model(), CONFIG)
    batches = in_batches(1)
    alone, shared = (counted(model, batches, shares, do_sample=True, seed=3) for shares in (False, True))
    assert shared.ids == alone.ids and len(set(map(tuple, shared.ids))) == 9


def test_a_beginning_that_memory_runs_out_over_is_not_shared():
    model = convert_model(tiny_model(), CONFIG)
    ours = runner(model, options(NEW), shares=True)
    ours.generator.prefill = out_of_memory
    short = Counted(ours, in_batches(1))
    assert short.ids == counted(model, in_batches(1), shares=False).ids
    assert {line["shared_tokens"] for line in short.lines} == {0}


def test_any_other_failure_is_recorded():
    ours = runner(convert_model(tiny_model(), CONFIG), options(NEW), shares=True)
    ours.generator.prefill = wrong_shape
    (line,) = ours.lines([example()], [PROMPTS[0]], [[PROMPTS[1]]])
    assert line["error"] == f"ValueError (no such shape) over a prompt of {len(PROMPTS[0])} tokens"


def out_of_memory(*_):
    raise torch.OutOfMemoryError("CUDA out of memory")


def wrong_shape(*_):
    raise ValueError("no such shape")


@pytest.mark.parametrize(
    "model_type, attention, synced, words",
    [
        ("llama", CONFIG, False, None),
        ("llama", LambdaConfig(16, 4, 16, triangle_offset=0.5), False, None),
        ("mpt", None, False, None),
        ("llama", CONFIG, True, "under ZeRO-3"),
        ("llama", LambdaConfig(16, 4, 16, top_k=TopK(4, 9)), False, "--top_k_attention"),
        ("gpt2", None, False, "the cache of gpt2 may be of another kind"),
    ],
)
def test_why_prompts_are_read_alone(model_type, attention, synced, words):
    model = RunnableModel(tiny_model(model_type), tokenizer=None, identity={}, lambda_attention=None)
    reason = reason_to_read_alone(model, ModelPlan(ModelSpec("tiny"), attention), synced)
    assert (reason is None) if words is None else (words in reason)


def test_common_length():
    assert common_length([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_length([1, 2], [1, 2, 3]) == common_length([1, 2, 3], [1, 2]) == 2
    assert common_length([], [1]) == common_length([2], [1]) == 0
    long = list(range(1000))
    assert all(common_length(long, [*long[:at], -1, *long[at + 1 :]]) == at for at in range(1000))


BOOK, SAGA = document(1, 80), document(2, 80)
WHO, WHOM, WHY = [5, 6], [5, 7], [9, 9]


@pytest.mark.parametrize(
    "batches, held, expected",
    [
        ([[BOOK + WHO], [BOOK + WHOM], [BOOK + WHY], [SAGA]], 0, (80, True)),
        ([[BOOK + WHO], [BOOK + WHOM], [SAGA]], 0, (81, True)),
        ([[BOOK + WHO], [SAGA + WHO]], 0, (0, False)),
        ([[BOOK + WHO]], 0, (0, False)),
        ([[BOOK + WHO, BOOK + WHY]], 0, (80, False)),
        ([[BOOK + WHO, SAGA + WHY], [SAGA + WHY]], 0, (0, False)),
        ([[BOOK + WHO], [BOOK + WHOM]], 80, (80, True)),
        ([[BOOK + WHO], [SAGA]], 80, (80, False)),
        ([[BOOK + WHO], [BOOK[:40] + WHY], [BOOK[:40] + WHO]], 0, (40, True)),
        ([[BOOK + WHO], [BOOK + WHY], [BOOK[:40] + WHO]], 0, (80, True)),
        ([[BOOK + WHO], [BOOK[:60] + WHY], [BOOK[:40] + WHO]], 40, (40, True)),
        ([[BOOK + WHO], [BOOK + WHY], [BOOK[:30] + WHO]], 40, (80, True)),
        ([[BOOK + WHO], [BOOK + WHO]], 0, (81, True)),
        ([[BOOK], [BOOK[:9] + SAGA], [BOOK[:9] + WHO]], 0, (0, False)),
    ],
)
def test_branching_point(batches, held, expected):
    assert branching_point(batches[0], batches[1:], held) == expected


def test_no_more_batches_are_looked_at_than_share_the_beginning():
    def coming():
        yield [BOOK + WHOM]
        yield [SAGA]
        raise AssertionError("nothing shares it any more")

    assert branching_point([BOOK + WHO], coming()) == (81, True)
