"""The headline metrics of a stream's trial, and how they are shown."""

from typing import Any

import numpy as np

from scripts.harness.skipping import describe_skips
from scripts.streaming.streams import Standing
from utils.text_tables import counted, format_number
from utils.trials.nll_by_position import perplexity
from utils.trials.nll_of_stream import table


def summarise(
    standing: Standing, length: int, arrays: dict[str, np.ndarray], streams: list[dict[str, Any]], device: str
) -> dict[str, Any]:
    """The content of results.json. NLL in nats per token; spreads are standard deviations over streams.

    length: of a stream, in tokens. arrays: what stats.npz holds. streams: the summary of each.
    """
    tokens = sum(stream["tokens"] for stream in streams)
    nll = float(arrays["linear_sum"].sum()) / tokens
    means = [stream["nll"] for stream in streams]
    return {
        "nll": nll,
        "nll_spread": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "perplexity": perplexity(nll),
        "tokens": tokens,
        "streaming_length": length,
        "chunks": standing.chunks,
        "streams": streams,
        "seconds": standing.seconds,
        "tokens_per_second": tokens / standing.seconds,
        "peak_memory_bytes": standing.peak_memory_bytes,
        "device": device,
        "buckets": table(arrays),
    }


def describe(results: dict[str, Any]) -> str:
    """The results as a table of buckets and lines of totals."""
    several = len(results["streams"]) > 1
    header = f"{'positions':>27} {'tokens':>13} {'nll':>8} {'perplexity':>11}"
    lines = [header + (f" {'spread':>8}" if several else "")]
    lines += [_row(bucket, several) for bucket in results["buckets"]]
    spread = f" ± {results['nll_spread']:.4f} over {len(results['streams'])} streams" if several else ""
    documents = sum(stream["documents"] for stream in results["streams"])
    passes = max(stream["passes"] for stream in results["streams"])
    return "\n".join(
        [
            *lines,
            *describe_skips(results).splitlines(),
            f"nll {results['nll']:.4f} nats/token{spread} | perplexity {format_number(results['perplexity'])} | "
            f"{results['tokens']:,} tokens of {counted(documents, 'document')} ({passes:.2f} passes over the corpus)",
            f"{results['seconds']:.1f} s | {results['tokens_per_second']:,.0f} tokens/s | "
            f"cache {results['streams'][0]['cache_bytes'] / 2**20:.1f} MiB per stream | "
            f"peak memory {results['peak_memory_bytes'] / 2**30:.2f} GiB per rank | {results['device']}",
        ]
    )


def _row(bucket: dict[str, Any], several: bool) -> str:
    positions = f"{bucket['start']:,} - {bucket['end'] - 1:,}"
    nll = "-" if bucket["nll"] is None else f"{bucket['nll']:.4f}"
    line = f"{positions:>27} {bucket['tokens']:>13,} {nll:>8} {format_number(bucket['perplexity']):>11}"
    spread = "-" if bucket["spread"] is None else f"{bucket['spread']:.4f}"
    return line + (f" {spread:>8}" if several else "")
