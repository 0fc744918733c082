"""The headline metrics of a perplexity trial, and how they are shown."""

import math
from typing import Any

from scripts.harness.skipping import describe_skips
from scripts.perplexity.journal import NllJournal
from utils.text_tables import counted, format_number
from utils.trials.nll_by_position import BUCKET_SIZE, perplexity


def summarise(journal: NllJournal, device: str, document_mean: bool = False) -> dict[str, Any]:
    """The content of results.json. NLL in nats per token, bits per UTF-8 byte of the scored text.

    document_mean: whether it has the mean of the documents' NLL besides, each document counting once.
    """
    statistics = journal.statistics
    text_bytes = sum(sample["bytes"] for sample in journal.samples)
    nll = statistics.mean()
    return {
        "nll": nll,
        **({"document_nll": _document_mean(journal)} if document_mean else {}),
        "perplexity": perplexity(nll),
        "bits_per_byte": statistics.total / math.log(2) / text_bytes if text_bytes else None,
        "tokens": statistics.tokens,
        "documents": len(journal.samples),
        "bytes": text_bytes,
        "seconds": journal.seconds,
        "tokens_per_second": statistics.tokens / journal.seconds,
        "peak_memory_bytes": journal.peak_memory,
        "device": device,
        "bucket_size": BUCKET_SIZE,
        "buckets": statistics.buckets(),
    }


def describe(results: dict[str, Any]) -> str:
    """The results as a table of buckets and a line of totals."""
    lines = [f"{'positions':>19} {'documents':>9} {'tokens':>11} {'nll':>8} {'perplexity':>11}"]
    lines += [_row(bucket) for bucket in results["buckets"]]
    reach = [bucket["documents"] for bucket in results["buckets"]]
    if reach[-1] < reach[0]:
        first = next(bucket for bucket in results["buckets"] if bucket["documents"] < reach[0])
        lines.append(
            f"from position {first['start']:,} on fewer documents are averaged ({reach[-1]} of {reach[0]} in "
            "the last row), so rows differ in text as well"
        )
    skipped = describe_skips(results)
    lines += [
        f"{skipped}nll {results['nll']:.4f} nats/token{_shown_mean(results)} | "
        f"perplexity {format_number(results['perplexity'])} | "
        f"{format_number(results['bits_per_byte'])} bits/byte | {results['tokens']:,} tokens of "
        f"{counted(results['documents'], 'document')}",
        f"{results['seconds']:.1f} s | {results['tokens_per_second']:,.0f} tokens/s | "
        f"peak memory {results['peak_memory_bytes'] / 2**30:.2f} GiB per rank | {results['device']}",
    ]
    return "\n".join(lines)


def _document_mean(journal: NllJournal) -> float:
    return sum(sample["nll"] for sample in journal.samples) / len(journal.samples)


def _shown_mean(results: dict[str, Any]) -> str:
    return f", mean of documents {results['document_nll']:.4f}" if "document_nll" in results else ""


def _row(bucket: dict[str, Any]) -> str:
    positions = f"{bucket['start']:,} - {bucket['end'] - 1:,}"
    nll = f"{bucket['nll']:8.4f}" if bucket["nll"] is not None else f"{'-':>8}"
    ppl = format_number(bucket["perplexity"])
    return f"{positions:>19} {bucket['documents']:>9} {bucket['tokens']:>11,} {nll} {ppl:>11}"
