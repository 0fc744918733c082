"""`needle_in_a_haystack`: magic numbers of cities, hidden in a corpus and asked for (after Kamradt's test).

The first needle is at --depths (by default 0, 0.1, ... 1, in turn), the others evenly between it and the end. The score
is the share of the numbers that the answer has, digit by digit: no judge is asked.
"""

from data.metrics.containment import words_found
from data.tasks.generated import Draft, GeneratedExamples, Recipe, generator
from data.tasks.hiding import Haystack, open_haystack
from data.tasks.prompt import Prompt
from data.tasks.task import Task, TaskRequest
from data.tasks.words import draw
from utils.errors import UserError

DEPTHS = tuple(tenth / 10 for tenth in range(11))
HAYSTACK = "plays"
NEEDLES = 1
CITIES = (
    "Amsterdam Athens Baghdad Bangkok Barcelona Beirut Berlin Bogota Boston Brussels Budapest Cairo Chicago Copenhagen "
    "Dakar Delhi Dublin Geneva Hamburg Hanoi Havana Helsinki Istanbul Jakarta Karachi Kyoto Lagos Lima Lisbon London "
    "Madrid Manila Melbourne Milan Montreal Moscow Mumbai Munich Nairobi Naples Oslo Paris Prague Quito Riga Rome "
    "Santiago Seattle Seoul Shanghai Singapore Stockholm Sydney Tehran Tokyo Toronto Tunis Vienna Warsaw Zurich"
).split()
NEEDLE = "The magic number of {city} is {number}."


def build(request: TaskRequest) -> GeneratedExamples:
    """Prompts filled to within one word of the haystack. Raises UserError."""
    needles, depths = request.needles or NEEDLES, request.depths or DEPTHS
    if needles > len(CITIES):
        raise UserError(f"--needles {needles} is too large: give at most {len(CITIES)}")
    haystack = open_haystack(request.haystack or HAYSTACK)

    def recipe(index: int) -> Recipe:
        numbers = generator(request, index)
        facts = dict(zip(numbers.sample(CITIES, needles), draw("numbers", numbers, needles)))
        first = depths[index % len(depths)]
        places = [first + (1 - first) * order / needles for order in range(needles)]
        return Recipe(lambda words: _draft(haystack, facts, places, words))

    return GeneratedExamples(request, recipe)


def _draft(haystack: Haystack, facts: dict[str, str], places: list[float], words: int) -> Draft:
    needles = [NEEDLE.format(city=city, number=number) for city, number in facts.items()]
    context = haystack.hide(words, needles, places)
    several = len(facts) > 1
    cities = and_list(list(facts))
    asked = f"magic number{'s' if several else ''} of {cities}"
    return Draft(
        Prompt(
            "Somewhere in the following text a magic number is given for one city or several. Memorize what is said of "
            "them: I will ask you afterwards.\n\n",
            context,
            f"\n\nWhat {'are' if several else 'is'} the {asked}?",
            f" The {asked} {'are' if several else 'is'}",
        ),
        list(facts.values()),
        needles[0],
    )


def and_list(names: list[str]) -> str:
    """ "a", "a, and b" or "a, b, and c"."""
    return ", ".join([*names[:-1], f"and {names[-1]}"]) if len(names) > 1 else names[0]


TASK = Task(
    name="needle_in_a_haystack",
    build=build,
    metric=words_found,
    metric_name="exact_match",
    max_generation_length=128,
    options=("num_samples", "depths", "needles", "haystack"),
    generates=True,
    published=None,  # those are a judge's
)
