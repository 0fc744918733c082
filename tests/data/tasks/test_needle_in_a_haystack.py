"""Depths, several needles, and the places between sentences."""

import re

import pytest

from data.tasks.needle_in_a_haystack import and_list
from utils.errors import UserError

LENGTH = 6000


def test_depths_in_turn(open_task):
    depths = (0.0, 0.25, 0.9, 1.0)
    examples = open_task("needle_in_a_haystack", length=LENGTH, depths=depths, num_samples=6)
    for example, wanted in zip(examples, [*depths, *depths[:2]]):
        assert example.depth == pytest.approx(wanted, abs=0.02)
    assert examples[0].depth == 0
    assert examples[3].depth == 1


def test_needles_stand_between_sentences(open_task):
    for example in open_task("needle_in_a_haystack", length=LENGTH, needles=3, num_samples=9):
        for number in example.targets:
            before = example.prompt.context.partition(f" is {number}.")[0]
            before = before[: before.rindex("The magic number")].rstrip()
            assert before == "" or before.endswith(".")


def test_several_needles(open_task):
    example = open_task("needle_in_a_haystack", length=LENGTH, needles=3, depths=(0.4,))[0]
    places = [example.prompt.context.index(number) / len(example.prompt.context) for number in example.targets]
    assert places == pytest.approx([0.4, 0.6, 0.8], abs=0.03)
    cities = re.findall(r"magic number of (\w+) is", example.prompt.context)
    assert example.prompt.tail == f"\n\nWhat are the magic numbers of {cities[0]}, {cities[1]}, and {cities[2]}?"
    assert len(set(cities)) == len(set(example.targets)) == 3


def test_and_list():
    assert [and_list(["a"]), and_list(["a", "b"]), and_list(["a", "b", "c"])] == ["a", "a, and b", "a, b, and c"]


def test_a_haystack_that_is_too_short_begins_again(open_task, tmp_path):
    (tmp_path / "short.txt").write_text("One. Two. Three.")
    example = open_task("needle_in_a_haystack", length=1000, haystack=str(tmp_path))[0]
    assert "One. Two. Three. One. Two. Three." in example.prompt.context


def test_text_without_full_stops_has_places_too(open_task, tmp_path):
    (tmp_path / "endless.txt").write_text("word " * 1000)
    example = open_task("needle_in_a_haystack", length=5000, haystack=str(tmp_path), depths=(0.5,))[0]
    assert example.depth == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"needles": 0}, "--needles 0 is too small"),
        ({"needles": 1000}, "--needles 1000 is too large: give at most"),
        ({"depths": (0.5, 1.5)}, "--depths 1.5 is no place in a text"),
        ({"haystack": "./missing.txt"}, "missing.txt is not there"),
    ],
)
def test_bad_flags(open_task, flags, message):
    with pytest.raises(UserError, match=message):
        open_task("needle_in_a_haystack", length=LENGTH, **flags)


def test_empty_haystack(open_task, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(UserError, match="--haystack .* holds no words"):
        open_task("needle_in_a_haystack", length=LENGTH, haystack=str(tmp_path))[0]
