"""The headline metrics of a generation trial, and how they are shown."""

from typing import Any

from data.text_metrics import METRICS, UNSEEN, describe_unseen
from data.text_metrics.positions import summarise_positions
from scripts.generation.arguments import PositionPlan
from scripts.harness.journal import Journal
from scripts.harness.skipping import describe_skips
from utils.errors import UserError
from utils.text_tables import counted


def summarise(journal: Journal, plan: PositionPlan, dataset: str, device: str) -> dict[str, Any]:
    """The content of results.json: per position what it took and, with --evaluate_metrics, BLEU and ROUGE. A position
    that no document reaches past has 0 documents.

    Raises UserError where no document of the `dataset` reaches past a position.
    """
    lines = sorted(journal.lines, key=lambda line: (line["index"], line["position"]))
    if not lines:
        raise UserError(
            f"no document of --dataset {dataset} reaches past --evaluate_positions "
            f"{plan.positions[0]}: give smaller ones, or longer texts"
        )
    scores = {row["position"]: row for row in summarise_positions(lines)} if plan.evaluate_metrics else {}
    return {
        "positions": [
            _costs(position, [line for line in lines if line["position"] == position]) | scores.get(position, {})
            for position in plan.positions
        ],
        "documents": len(journal.done),
        "generated": sum(line.get("generated", 0) for line in lines),
        "seconds": journal.seconds,
        "peak_memory_bytes": journal.peak_memory,
        "device": device,
    }


def _costs(position: int, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """prefill_seconds: of one text from its start, in batches as they were. tokens_per_second: decoding, of a batch."""
    done = [line for line in lines if line["error"] is None]
    costs = {"position": position, "documents": len(lines), "failed": len(lines) - len(done)}
    if not done:
        return costs
    decoding = sum(line["decode_seconds"] / line["batch"] for line in done)
    return costs | {
        "prefill_seconds": sum(line["prefill_seconds"] / line["batch"] for line in done) / len(done),
        "tokens_per_second": sum(line["generated"] for line in done) / decoding,
        "cache_bytes": max(line["cache_bytes"] for line in done),
    }


def describe(results: dict[str, Any]) -> str:
    """The results as a table of positions and a line of totals."""
    metrics = [name for name in METRICS if name in results["positions"][0]]
    header = ["position", "documents", "failed", "prefill s", "tokens/s", "cache MiB", *metrics]
    widths = [max(len(name), 9) for name in header]
    lines = ["  ".join(name.rjust(width) for name, width in zip(header, widths))]
    for row in results["positions"]:
        cells = [f"{row['position']:,}", str(row["documents"]), str(row["failed"])]
        cells += [_cell(row.get(name), scale) for name, scale in _COSTS]
        cells += [_cell(row.get(name), 1, digits=4) for name in metrics]
        lines.append("  ".join(cell.rjust(width) for cell, width in zip(cells, widths)))
    lines += describe_unseen(sum(row.get(UNSEEN, 0) for row in results["positions"]))
    lines.append(
        f"{describe_skips(results)}{counted(results['generated'], 'token')} generated after "
        f"{counted(results['documents'], 'document')} in "
        f"{results['seconds']:.1f} s | peak memory {results['peak_memory_bytes'] / 2**30:.2f} GiB per rank | "
        f"{results['device']}"
    )
    return "\n".join(lines)


_COSTS = (("prefill_seconds", 1), ("tokens_per_second", 1), ("cache_bytes", 2**20))


def _cell(value: float | None, scale: float, digits: int = 1) -> str:
    return "-" if value is None else f"{value / scale:.{digits}f}"
