"""RULER's variable tracking, `ruler/vt`: one chain of four hops in noise (arXiv 2404.06654, section 3).

A solved example of the same kind comes first, with variables of three letters instead of five, as published.
"""

import random
import string

from data.metrics.containment import string_match_all
from data.tasks.generated import Draft, GeneratedExamples, Recipe, TooLong, generator, most_units
from data.tasks.hiding import NOISE, hide, noise
from data.tasks.prompt import Prompt
from data.tasks.ruler import PUBLISHED
from data.tasks.task import Task, TaskRequest

HOPS = 4
LETTERS, EXAMPLE_LETTERS = 5, 3
EXAMPLE_TOKENS = 500  # of the solved example at most, its answer and what a tokenizer adds aside
MAX_GENERATION_LENGTH = 30
INSTRUCTION = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
QUESTION = "\nQuestion: Find all variables that are assigned the value {value} in the text above."
ANSWER = (
    " Answer: According to the chain(s) of variable assignment in the text above, {count} variables are assgined the "
    "value {value}, they are: "
)  # spelled as published


def build(request: TaskRequest) -> GeneratedExamples:
    """Prompts filled to within one sentence of the noise. Raises UserError."""
    request.need_length()
    example = example_sentences(request)

    def recipe(index: int) -> Recipe:
        def draft(sentences: int) -> Draft:
            numbers = generator(request, index)
            solved, names = chain_prompt(numbers, example, EXAMPLE_LETTERS)
            prompt, targets = chain_prompt(numbers, sentences, LETTERS)
            shown = f"{solved.text()} {' '.join(names)}\n\n"
            return Draft(Prompt(shown + prompt.head, prompt.context, prompt.tail, prompt.answer), targets)

        return Recipe(draft)

    return GeneratedExamples(request, recipe, MAX_GENERATION_LENGTH)


def example_sentences(request: TaskRequest) -> int:
    """The noise of the solved example: as many rounds of it as fit EXAMPLE_TOKENS, counted once for all examples."""

    def tokens(rounds: int) -> int:
        prompt, _ = chain_prompt(random.Random(0), rounds * len(NOISE), EXAMPLE_LETTERS)
        return request.text_tokens(prompt.text())

    try:
        return most_units(tokens, EXAMPLE_TOKENS) * len(NOISE)
    except TooLong:
        return 0


def chain_prompt(numbers: random.Random, sentences: int, letters: int) -> tuple[Prompt, list[str]]:
    """A chain in so much noise, and the names of its variables, of so many letters each."""
    names: dict[str, None] = {}
    while len(names) <= HOPS:
        names["".join(numbers.choices(string.ascii_uppercase, k=letters))] = None
    value = str(numbers.randint(10_000, 99_999))
    sources = [value, *(f"VAR {name} " for name in names)]  # with the published line's space
    assignments = [f"VAR {name} = {source}" for name, source in zip(names, sources)]
    places = sorted(numbers.random() for _ in assignments)
    context = "\n".join(hide(noise(sentences), assignments, places))
    answer = ANSWER.format(count=len(names), value=value)
    return Prompt(INSTRUCTION, context, QUESTION.format(value=value), answer), list(names)


TASK = Task(
    name="ruler/vt",
    build=build,
    metric=string_match_all,
    metric_name="string_match_all",
    max_generation_length=MAX_GENERATION_LENGTH,
    options=("num_samples",),
    generates=True,
    published=PUBLISHED,
)
