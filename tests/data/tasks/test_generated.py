"""Every generated task: deterministic, as long as asked for and not longer, its targets in the context."""

from unittest.mock import Mock

import pytest

from data.metrics.containment import words_found
from data.tasks.generated import TooLong, depth_of, most_units
from data.tasks.prompt import PromptEncoder
from data.tasks.registry import TASKS
from utils.errors import UserError

GENERATED = [name for name, task in TASKS.items() if task.generates]
LENGTH = 3000
LARGEST_UNIT = {
    "ruler/niah_multikey_2": 110,  # tokens of a distractor
    "ruler/niah_multikey_3": 135,
    "ruler/cwe": 40,  # an uncommon word
    "ruler/fwe": 80,  # a few coded words
}
SENTENCE = 23  # the longest sentence of noise, and longer than any word of the haystack


def test_all_of_them_are_here():
    assert len(GENERATED) == 13  # 11 of RULER's 13 (the others need files), pass keys and needles
    assert sum(name.startswith("ruler/") for name in TASKS) == 13


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("name", GENERATED)
def test_length(open_task, tokenizer, name, chat):
    """Counted afresh: what the model would read."""
    for example in open_task(name, length=LENGTH, chat=chat):
        tokens = len(PromptEncoder(tokenizer, chat=chat).encode(example.prompt))
        assert example.length == tokens
        answer = TASKS[name].max_generation_length if name.startswith("ruler/") else 0
        assert LENGTH - LARGEST_UNIT.get(name, SENTENCE) < tokens + answer <= LENGTH


@pytest.mark.parametrize("name", GENERATED)
def test_deterministic_and_each_on_its_own(open_task, name):
    first = list(open_task(name, length=LENGTH, seed=7))
    assert open_task(name, length=LENGTH, seed=7, num_samples=1000)[2] == first[2]
    assert len({example.prompt.text() for example in first}) == 3
    assert len({example.id for example in first}) == 3
    assert [example.index for example in first] == [0, 1, 2]
    other = list(open_task(name, length=LENGTH, seed=8))
    assert all(one.prompt != two.prompt for one, two in zip(first, other))


@pytest.mark.parametrize("name", GENERATED)
def test_targets_are_in_the_context_and_nowhere_else(open_task, name):
    for example in open_task(name, length=LENGTH):
        assert words_found(example.prompt.context, example.targets) == 1
        around = example.prompt.head + example.prompt.tail + example.prompt.answer
        if name != "ruler/cwe":  # whose solved example may have the same words
            assert words_found(around, example.targets) == 0
        assert TASKS[name].metric(" ".join(example.targets), example.targets) == 1
        assert TASKS[name].metric("no idea", example.targets) == 0
        if example.depth is not None:
            assert 0 <= example.depth <= 1


@pytest.mark.parametrize("name", GENERATED)
def test_too_short(open_task, name):
    with pytest.raises(UserError, match=f"--max_length 50 is too short for --dataset {name}: .* has [0-9]+ tokens"):
        open_task(name, length=50)[0]
    with pytest.raises(UserError, match=f"--dataset {name} is generated: say with --max_length"):
        open_task(name)


@pytest.mark.parametrize(
    "count, limit",
    [
        (lambda units: 100 + 26 * units, None),
        (lambda units: 90 + 3 * (units // 5), None),
        (lambda units: units**2 // 7, None),
        (lambda units: int(40 * units**0.7), None),
        (lambda units: 26 * units, 20),
        (lambda units: 26 * units, 0),
    ],
)
def test_most_units(count, limit):
    for length in range(100, 4000, 97):
        counter = Mock(side_effect=count)
        units = most_units(counter, length, limit)
        assert count(units) <= length
        assert units == limit or count(units + 1) > length
        assert counter.call_count <= 26


def test_not_even_none():
    with pytest.raises(TooLong) as error:
        most_units(lambda units: 7 + units, 6)
    assert error.value.tokens == 7


def test_depth():
    assert depth_of("ab", "ab----") == 0
    assert depth_of("ab", "--ab--") == 0.5
    assert depth_of("ab", "----ab") == 1
    assert depth_of("ab", "ab") == 0
