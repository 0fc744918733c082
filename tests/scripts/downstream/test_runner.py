"""Prompts cut and padded, and answers that end at a stop string."""

import pytest
import torch

from data.arguments import Truncation
from data.tasks.prompt import Prompt, PromptEncoder
from data.tasks.task import Example, Task
from models.constant import ConstantModel
from models.llama import convert_llama_model
from scripts.downstream.runner import TaskRunner, truncate
from scripts.generation.arguments import Generation
from scripts.generation.generator import Generator
from scripts.generation.padding import pad_left
from tests.tiny_models import tiny_model, tiny_tokenizer
from utils.arguments import plan_of
from utils.errors import UserError


@pytest.mark.parametrize(
    "length, side, expected",
    [
        (None, "center", [0, 1, 2, 3, 4, 5, 6]),
        (7, "center", [0, 1, 2, 3, 4, 5, 6]),
        (5, "center", [0, 1, 4, 5, 6]),
        (4, "center", [0, 1, 5, 6]),
        (3, "center", [0, 5, 6]),
        (2, "center", [0, 6]),
        (3, "left", [4, 5, 6]),
        (3, "right", [0, 1, 2]),
    ],
)
def test_truncate(length, side, expected):
    assert truncate(list(range(7)), length, side) == expected


def test_padding_is_on_the_left_and_hidden():
    input_ids, mask = pad_left([[5, 6, 7], [8]])
    assert input_ids.tolist() == [[5, 6, 7], [0, 0, 8]] and mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def options(length=20, **others):
    return {"max_generation_length": length} | others


def runner(model, flags, stop=(), shares=False):
    tokenizer = tiny_tokenizer()
    task = Task("task", None, lambda output, targets: float(output in targets), "equal", 20, stop=stop)
    generator = Generator(model, tokenizer, plan_of(Generation, flags), torch.device("cpu"), stop)
    truncation, last = plan_of(Truncation, flags), flags.get("runtime_truncation")
    return TaskRunner(task, PromptEncoder(tokenizer), generator, truncation, last, model.config.vocab_size, shares)


def example(text="the and", index=0, targets=("a",)):
    return Example(index, f"task:{index}", "task", Prompt("", text, ""), list(targets))


def lines(runner, *examples):
    return runner.lines(examples, [runner.prompt(example) for example in examples])


def test_what_follows_the_first_stop_string_is_no_answer():
    model = ConstantModel.from_tokenizer(tiny_tokenizer(), "seven</A> eight</B>")
    (line,) = lines(runner(model, options(), ("</B>", "</A>")), example(targets=["six", "seven"]))
    assert (line["output"], line["score"]) == ("seven", 1.0)


@pytest.mark.parametrize("convert", [lambda model: model, lambda model: convert_llama_model(model, 8, 2)])
def test_generation_ends_at_a_stop_string(convert):
    tokenizer, model = tiny_tokenizer(), convert(tiny_model())
    flags = options(
        suppress_tokens=[token for token in range(len(tokenizer)) if not is_letters(tokenizer.decode(token))]
    )
    (free,) = lines(runner(model, flags), example())
    stop = free["output"][2:4]
    stopped = runner(model, flags, (stop,))
    counts, generate = [], stopped.generator.generate

    def counting(*args, **kwargs):
        generated = generate(*args, **kwargs)
        counts.extend(generated.tokens)
        return generated

    stopped.generator.generate = counting
    (line,) = lines(stopped, example())
    assert line["output"] == free["output"][: free["output"].index(stop)]
    assert counts[0] < 20


def test_samples_depend_on_the_example_and_not_on_those_before():
    sampling = runner(tiny_model(), options(do_sample=True))
    both = [lines(sampling, example(index=index))[0]["output"] for index in (0, 1)]
    assert both[0] != both[1]
    assert lines(sampling, example(index=1))[0]["output"] == both[1]


def test_no_rank_goes_on_where_others_wait():
    ours = runner(tiny_model(), options())
    ours.generator.synced = True
    ours.generator.generate = short_of_memory
    with pytest.raises(UserError, match="memory ran out, and under ZeRO-3 no rank can go on"):
        lines(ours, example())


def is_letters(text):
    return text.isascii() and text.isalpha()


def short_of_memory(*args, **kwargs):
    raise torch.OutOfMemoryError("out of memory")


def test_a_batch_that_does_not_fit_is_tried_one_by_one():
    ours = runner(tiny_model(), options())
    single = [lines(ours, example(text, index))[0] for index, text in enumerate(["the", "and the and"])]
    generate = ours.generator.generate
    ours.generator.generate = lambda input_ids, **others: (short_of_memory if len(input_ids) > 1 else generate)(
        input_ids, **others
    )
    assert lines(ours, example("the", 0), example("and the and", 1)) == single
