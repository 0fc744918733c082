"""The headline metrics of a downstream trial, and how they are shown."""

from typing import Any

from data.text_metrics import METRICS, UNSEEN, describe_unseen
from scripts.downstream.arguments import TaskPlan
from scripts.harness.journal import Journal
from utils.text_tables import PERCENT, SHARE, format_spread
from utils.trials.summary import summarise_task


def summarise(journal: Journal, metric: str, plan: TaskPlan, device: str) -> dict[str, Any]:
    """The content of results.json. The score is 0 to 1, its standard error or interval over the examples.

    metric: the name of the score. With --percent, `percent` holds what the score is of 100.
    """
    lines = sorted(journal.lines, key=lambda line: line["index"])
    summary = summarise_task(lines)
    score = summary["score"]
    return {
        **summary,
        "metric": metric,
        **({"percent": score and 100 * score} if plan.percent else {}),
        **(_text_metrics(lines) if plan.evaluate_metrics else {}),
        **_prefill(lines),
        "seconds": journal.seconds,
        "peak_memory_bytes": journal.peak_memory,
        "device": device,
    }


def _prefill(lines: list[dict[str, Any]]) -> dict[str, int]:
    """Tokens of prompts that were read, and those that need not be: another prompt began with them."""
    done = [line for line in lines if line["error"] is None]
    saved = sum(line.get("shared_tokens", 0) for line in done)
    return {"prefill_tokens": sum(line["length"] for line in done) - saved, "prefill_tokens_saved": saved}


def _text_metrics(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """BLEU and ROUGE against the first reference answer."""
    from data.text_metrics.scores import generation_scores  # imports `evaluate`, which takes seconds

    done = [line for line in lines if line["error"] is None and line["targets"]]
    return generation_scores([line["output"] for line in done], [line["targets"][0] for line in done])


def describe(results: dict[str, Any]) -> str:
    """The results in words."""
    spread = results["standard_error"], results.get("interval")
    scale = PERCENT if "percent" in results else SHARE
    score = "-" if results["score"] is None else format_spread(results["score"], *spread, scale)
    failed = f", {results['failed']} failed" if results["failed"] else ""
    lines = [
        f"{results['task']}: {results['metric']}{scale.words} {score} over {results['examples']} examples{failed}, "
        f"prompts of up to {results['length'] or 0:,} tokens"
    ]
    names = [name for name in METRICS if results.get(name) is not None]
    lines += [" | ".join(f"{name} {results[name]:.4f}" for name in names)] if names else []
    lines += describe_unseen(results.get(UNSEEN, 0))
    if "prefill_tokens" in results:
        lines.append(
            f"{results['prefill_tokens']:,} tokens of prompts read, {results['prefill_tokens_saved']:,} saved where "
            "prompts share a beginning"
        )
    lines.append(
        f"{results['seconds']:.1f} s | peak memory {results['peak_memory_bytes'] / 2**30:.2f} GiB per rank | "
        f"{results['device']}"
    )
    return "\n".join(lines)
