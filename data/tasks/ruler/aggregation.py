"""RULER's aggregation tasks (arXiv 2404.06654, section 3): `ruler/cwe`, common words, `ruler/fwe`, frequent ones."""

import math
import random
import string
from dataclasses import dataclass

from data.metrics.containment import string_match_all
from data.tasks.generated import Draft, GeneratedExamples, Recipe, generator
from data.tasks.prompt import Prompt
from data.tasks.ruler import PUBLISHED
from data.tasks.task import Task, TaskRequest
from data.tasks.words import all_words

COMMON_ANSWER, FREQUENT_ANSWER = 120, 50
"""Tokens of an answer at most."""
COMMON_WORDS = 10
LONG = 4096  # tokens, those of the answer included, from which the words of a list are repeated more often
REUSES = 5  # how often a word may serve as an uncommon one: each is then at most half as frequent as a common one

CODED_WORDS = 3
CODED_LETTERS = 6
EXPONENT = 2.0
TOKENS_PER_CODED_WORD = 50  # of the prompt, for each word of the vocabulary
FEWEST_CODED = 120  # words from which the fourth coded word is rarer than the third


@dataclass(frozen=True)
class Repeats:
    """Number of times that a common and an uncommon word is in a list, and of words in the solved example."""

    common: int
    uncommon: int
    example_common: int
    example_uncommon: int
    example_words: int


SHORT_REPEATS = Repeats(6, 1, 3, 1, 20)
LONG_REPEATS = Repeats(30, 3, 10, 3, 40)


def build_common(request: TaskRequest) -> GeneratedExamples:
    """A numbered list in which ten words are common, after a solved example; filled to within one uncommon word."""
    _, length = request.need_length()
    repeats = LONG_REPEATS if length >= LONG else SHORT_REPEATS

    def recipe(index: int) -> Recipe:
        numbers = generator(request, index)
        example_common, example_rare = split_common(numbers.sample(all_words(), repeats.example_words))
        common, others = split_common(numbers.sample(all_words(), len(all_words())))

        def draft(uncommon: int) -> Draft:
            shuffler = generator(request, index, "order")
            rare = [others[order % len(others)] for order in range(uncommon)]
            solved = common_prompt(
                shuffler, example_common * repeats.example_common + example_rare * repeats.example_uncommon
            )
            prompt = common_prompt(shuffler, common * repeats.common + rare * repeats.uncommon)
            head = f"{solved.text()}{numbered(example_common)}\n{prompt.head}"  # without a space, as published
            return Draft(Prompt(head, prompt.context, prompt.tail, prompt.answer), common)

        return Recipe(draft, most=REUSES * len(others))

    return GeneratedExamples(request, recipe, COMMON_ANSWER)


def split_common(words: list[str]) -> tuple[list[str], list[str]]:
    """(the words that are to be common, the others)."""
    return words[:COMMON_WORDS], words[COMMON_WORDS:]


def common_prompt(shuffler: random.Random, words: list[str]) -> Prompt:
    """The words in a random order, and the question."""
    words = shuffler.sample(words, len(words))
    return Prompt(
        "Below is a numbered list of words. In these words, some appear more often than others. "
        "Memorize the ones that appear most often.\n",
        numbered(words),
        f"\nQuestion: What are the {COMMON_WORDS} most common words in the above list?",
        f" Answer: The top {COMMON_WORDS} words that appear most often in the list are:",
    )


def numbered(words: list[str]) -> str:
    """ "1. one 2. two"."""
    return " ".join(f"{number}. {word}" for number, word in enumerate(words, start=1))


def build_frequent(request: TaskRequest) -> GeneratedExamples:
    """Coded words whose k-th is as frequent as k ** -2, the first of them dots; filled to within a few words."""
    _, length = request.need_length()
    vocabulary = max((length - FREQUENT_ANSWER) // TOKENS_PER_CODED_WORD, CODED_WORDS + 2)

    def recipe(index: int) -> Recipe:
        numbers = generator(request, index)
        coded: dict[str, None] = {"...": None}
        while len(coded) < vocabulary:
            coded["".join(numbers.choices(string.ascii_lowercase, k=CODED_LETTERS))] = None
        return Recipe(lambda words: frequent_draft(generator(request, index, "order"), list(coded), words))

    return GeneratedExamples(request, recipe, FREQUENT_ANSWER)


def frequent_draft(shuffler: random.Random, coded: list[str], extra: int) -> Draft:
    """About FEWEST_CODED + extra words, coded[k - 1] as often as the zeta distribution has it, in a random order."""
    total = (FEWEST_CODED + extra) * 6 / math.pi**2  # zeta(2), of the distribution with EXPONENT 2, is pi² / 6
    words = [word for rank, word in enumerate(coded, start=1) for _ in range(int(total / rank**EXPONENT))]
    shuffler.shuffle(words)
    prompt = Prompt(
        "Read the following coded text and track the frequency of each coded word. "
        "Find the three most frequently appeared coded words. ",
        " ".join(words),
        "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
        "What are the three most frequently appeared words in the above coded text?",
        " Answer: According to the coded text above, the three most frequently appeared words are:",
        manner="",
    )
    return Draft(prompt, coded[1 : 1 + CODED_WORDS])


COMMON = Task(
    name="ruler/cwe",
    build=build_common,
    metric=string_match_all,
    metric_name="string_match_all",
    max_generation_length=COMMON_ANSWER,
    options=("num_samples",),
    generates=True,
    published=PUBLISHED,
)
FREQUENT = Task(
    name="ruler/fwe",
    build=build_frequent,
    metric=string_match_all,
    metric_name="string_match_all",
    max_generation_length=FREQUENT_ANSWER,
    options=("num_samples",),
    generates=True,
    published=PUBLISHED,
)
