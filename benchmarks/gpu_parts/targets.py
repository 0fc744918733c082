"""The targets on one H100 in bfloat16, and what a report has of each."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from benchmarks.gpu_parts import correctness, growth, large_model, layer, stream
from benchmarks.gpu_parts.case import FAILED, MEASURED, Found
from benchmarks.gpu_parts.report import Report
from benchmarks.gpu_parts.sizes import Sizes
from models.attention.settings import ON_GPU
from utils.text_tables import as_text

FLAT = 1.1
"""The most that a time per token, or a memory, at the longest length may be of that at the shortest."""


@dataclass(frozen=True)
class Target:
    """wanted: the bound of `seen`; at_least: which side of it is met. seen: None where it was not measured."""

    name: str
    wanted: float
    at_least: bool
    seen: float | None
    by: str = ""

    @property
    def met(self) -> bool | None:
        if self.seen is None:
            return None
        return self.seen >= self.wanted if self.at_least else self.seen <= self.wanted


def targets(report: Report, sizes: Sizes) -> list[Target]:
    """All of them, in the order of the parts."""
    return [
        *_of_correctness(report),
        *_of_layers(report, sizes),
        _of_stream(report),
        *_of_large_model(report),
        *_of_growth(report, sizes),
    ]


def as_found(found: list[Target]) -> list[Found]:
    """As JSON."""
    return [{**asdict(target), "met": target.met} for target in found]


def table(found: list[Target]) -> str:
    """Target, what is wanted, what was seen, whether it is met."""
    words = {True: "met", False: "NOT MET", None: "not measured"}
    lines = [["target", "wanted", "seen", ""], ""]
    for target in found:
        wanted = f"{'>=' if target.at_least else '<='} {target.wanted:,g}"
        seen = "-" if target.seen is None else f"{target.seen:,.4g}{f' ({target.by})' if target.by else ''}"
        lines.append([target.name, wanted, seen, words[target.met]])
    return as_text(lines)


def numbers(report: Report, part: str, name: str) -> dict[str, float]:
    """The numbers of all measured cases of a part that have one of this name, by case."""
    cases = {case: found for case, found in report.cases(part).items() if found.get("state") == MEASURED}
    return {case: found[name] for case, found in cases.items() if isinstance(found.get(name), int | float)}


def _of_correctness(report: Report) -> Iterator[Target]:
    cases = report.cases(correctness.PART.name).values()
    over = [found for found in cases if found.get("state") == FAILED or "passed" in found]
    wrong = [found for found in over if not found.get("passed")]
    yield Target(f"wrong or failed of {len(over)} correctness cases", 0, False, len(wrong) if over else None)


def _of_layers(report: Report, sizes: Sizes) -> Iterator[Target]:
    rates = numbers(report, layer.PART.name, "tflops_per_second")
    seconds = numbers(report, layer.PART.name, "median")
    short, long = sizes.layer_lengths[:2]
    kernels = [layer.FLASH_KERNEL, layer.FLEX_KERNEL, *(f"{backend}, {layer.WINDOW}" for backend in ON_GPU[1:])]
    for shape in sizes.shapes:
        best = _largest({name: rates.get(layer.case_name(shape, short, name)) for name in kernels})
        dense = rates.get(layer.case_name(shape, short, layer.DENSE))
        share = best[1] / dense if best and dense else None
        name = f"{shape.label}, {short:,} tokens: FLOP/s of the window over those of dense"
        yield Target(name, 0.6, True, share, best[0] if best else "")
    for shape in sizes.shapes:
        dense = seconds.get(layer.case_name(shape, long, layer.DENSE))
        own = {name: seconds.get(layer.case_name(shape, long, name)) for name in ON_GPU[1:]}
        best = _largest({name: dense / taken for name, taken in own.items() if dense and taken})
        name = f"{shape.label}, {long:,} tokens: times faster than dense"
        yield Target(name, 12, True, *_seen(best))


def _of_stream(report: Report) -> Target:
    minutes = numbers(report, stream.PART.name, "minutes_for_200m")
    best = _largest({case: -value for case, value in minutes.items()})
    seen = (-best[1], best[0]) if best else (None, "")
    return Target("SmolLM2-135M: minutes for 200,000,000 tokens", 15, False, *seen)


def _of_large_model(report: Report) -> Iterator[Target]:
    speeds = numbers(report, large_model.PART.name, "tokens_per_second")
    yield Target("Llama-2-7B: tokens/s in a stream", 25_000, True, speeds.get(large_model.STREAM))
    decoded = numbers(report, large_model.PART.name, "decoded_tokens_per_second")
    vanilla = decoded.pop(large_model.VANILLA, None)
    best = _largest({case: speed / vanilla for case, speed in decoded.items()} if vanilla else {})
    yield Target("Llama-2-7B: decoded tokens/s over vanilla's, after a prompt", 2.7, True, *_seen(best))


def _of_growth(report: Report, sizes: Sizes) -> Iterator[Target]:
    ways = {
        "nanoseconds_per_token": (growth.layer_case, sizes.growth_lengths, "time per token of a layer"),
        "working_memory_mib": (growth.layer_case, sizes.growth_lengths, "working memory of a layer"),
        "milliseconds_per_token": (growth.step_case, sizes.decode_positions, "time of a decoded token"),
        "cache_mib": (growth.step_case, sizes.decode_positions, "cache"),
    }
    for number, (name, places, what) in ways.items():
        found = numbers(report, growth.PART.name, number)
        first, last = (found.get(name(place)) for place in (places[0], places[-1]))
        ratio = last / first if first and last else None
        yield Target(f"{what}, at {places[-1]:,} over that at {places[0]:,}", FLAT, False, ratio)


def _largest(values: dict[str, float | None]) -> tuple[str, float] | None:
    """The name and value of the largest; None of none."""
    known = {name: value for name, value in values.items() if value is not None}
    best = max(known, key=known.__getitem__, default=None)
    return None if best is None else (best, known[best])


def _seen(best: tuple[str, float] | None) -> tuple[float | None, str]:
    return (best[1], best[0]) if best else (None, "")
