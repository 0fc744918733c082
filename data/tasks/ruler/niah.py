"""RULER's eight needles in a haystack (Hsieh et al., 2024, arXiv 2404.06654, section 3 and appendix B).

Keys, values and queries are in the numbers that RULER's published configuration has. Its essays are read where
--haystack names its PaulGrahamEssays.json; any other corpus takes their place ("plays" by default). A distractor never
has the key that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from data.metrics.containment import string_match_all
from data.tasks.generated import Draft, GeneratedExamples, Recipe, generator
from data.tasks.hiding import hide, noise, open_haystack
from data.tasks.needle_in_a_haystack import HAYSTACK, and_list
from data.tasks.prompt import Prompt
from data.tasks.ruler import PUBLISHED
from data.tasks.task import Task, TaskRequest
from data.tasks.words import DRAWERS, draw

NEEDLE = "One of the special magic {kind} for {key} is: {value}."
MAX_GENERATION_LENGTH = 128
CORPUS, NOISE, DISTRACTORS = "corpus", "noise", "distractors"


@dataclass(frozen=True)
class Needles:
    """haystack: what they are hidden in. key, value: kinds of DRAWERS. values: of each key. queries: keys asked for."""

    haystack: str
    key: str = "words"
    value: str = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1


VARIANTS = {
    "niah_single_1": Needles(NOISE),
    "niah_single_2": Needles(CORPUS),
    "niah_single_3": Needles(CORPUS, value="uuids"),
    "niah_multikey_1": Needles(CORPUS, keys=4),
    "niah_multikey_2": Needles(DISTRACTORS),
    "niah_multikey_3": Needles(DISTRACTORS, key="uuids", value="uuids"),
    "niah_multivalue": Needles(CORPUS, values=4),
    "niah_multiquery": Needles(CORPUS, keys=4, queries=4),
}


def build(variant: str, request: TaskRequest) -> GeneratedExamples:
    """Prompts filled to within one word of the corpus, sentence of noise, or distractor. Raises UserError."""
    needles = VARIANTS[variant]
    haystack = open_haystack(request.haystack or HAYSTACK) if needles.haystack == CORPUS else None

    def recipe(index: int) -> Recipe:
        numbers = generator(request, index)
        keys = draw(needles.key, numbers, needles.keys)
        values = draw(needles.value, numbers, needles.keys * needles.values)
        facts = {key: values[order :: needles.keys] for order, key in enumerate(keys)}
        hidden = [needle_of(needles, key, value) for key in keys for value in facts[key]]
        numbers.shuffle(hidden)
        places = sorted(numbers.random() for _ in hidden)
        asked = {key: facts[key] for key in numbers.sample(keys, needles.queries)}

        def draft(units: int) -> Draft:
            if haystack:
                context = haystack.hide(units, hidden, places)
            elif needles.haystack == NOISE:
                context = "\n".join(hide(noise(units), hidden, places))
            else:
                distractors = _distractors(needles, request, index, units, frozenset(keys))
                context = "\n".join(hide(distractors, hidden, places))
            return _draft(needles, context, asked)

        return Recipe(draft)

    return GeneratedExamples(request, recipe, MAX_GENERATION_LENGTH)


def needle_of(needles: Needles, key: str, value: str) -> str:
    """The sentence that says a value."""
    return NEEDLE.format(kind=needles.value, key=key, value=value)


def _distractors(
    needles: Needles, request: TaskRequest, index: int, count: int, taken: frozenset[str]
) -> Sequence[str]:
    """The first `count` distractors of an example."""
    numbers = generator(request, index, "distractors")
    drawn = []
    while len(drawn) < count:
        key, value = DRAWERS[needles.key](numbers), DRAWERS[needles.value](numbers)
        if key not in taken:
            drawn.append(needle_of(needles, key, value))
    return drawn


def _draft(needles: Needles, context: str, asked: dict[str, list[str]]) -> Draft:
    targets = [value for values in asked.values() for value in values]
    kind, query = needles.value, and_list(list(asked))
    if len(targets) > 1:
        some, question, are = f"Some special magic {kind} are", "What are all", "are"
    else:
        kind = kind.removesuffix("s")
        some, question, are = f"A special magic {kind} is", "What is", "is"
    prompt = Prompt(
        f"{some} hidden within the following text. Make sure to memorize it. "
        f"I will quiz you about the {kind} afterwards.\n",
        context,
        f"\n{question} the special magic {kind} for {query} mentioned in the provided text?",
        f" The special magic {kind} for {query} mentioned in the provided text {are}",
    )
    needle = needle_of(needles, next(iter(asked)), targets[0]) if len(targets) == 1 else None
    return Draft(prompt, targets, needle)


def task(variant: str) -> Task:
    """The Task of a variant."""
    options = ("num_samples", "haystack") if VARIANTS[variant].haystack == CORPUS else ("num_samples",)
    return Task(
        name=f"ruler/{variant}",
        build=partial(build, variant),
        metric=string_match_all,
        metric_name="string_match_all",
        max_generation_length=MAX_GENERATION_LENGTH,
        options=options,
        generates=True,
        published=PUBLISHED,
    )


TASKS = [task(variant) for variant in VARIANTS]
