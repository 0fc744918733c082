"""Does a stream's NLL rise with position, or is it the text? Two orders of the same documents, compared.

Both trials are finished ones of scripts/eval_infinite_ppl.py with --save_token_nll, alike but for --seed (--dtype may
differ). What both read is known token by token, so each bucket of one order is held against the NLL that the other
order, at other positions, gives to the same tokens: what the text explains. The first tokens of either stream, as many
as the window holds, are warm-up and left out of this. Of several streams of a trial the first counts.

python benchmarks/stream_orders.py LOG_DIR LOG_DIR [--bucket 100000] [--name stream_1m_orders]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.measuring.arguments import add_out_argument
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.stream_readings import Order, load_order
from data.arguments import SAME_STREAM_ARGUMENTS
from utils.arguments import whole_number
from utils.errors import UserError
from utils.program import run_main

LIMIT = 0.15
SAME_ARGUMENTS = tuple(name for name in SAME_STREAM_ARGUMENTS if name != "streaming_length")


def refuse_differences(first: dict[str, Any], second: dict[str, Any], log_dirs: list[str]) -> None:
    """Raise UserError unless both trials give the same text to the same model, in orders of their own."""
    arguments = (first["arguments"], second["arguments"])
    pairs = {f"--{name}": [given.get(name) for given in arguments] for name in SAME_ARGUMENTS}
    pairs["lambda_attention"] = [first["lambda_attention"], second["lambda_attention"]]
    for fact in ("name", "tokenizer", "parameters"):  # the dtype may differ: it moves every token's NLL alike
        pairs[f"model {fact}"] = [config["model"][fact] for config in (first, second)]
    pairs["corpus"] = [first["corpus"], second["corpus"]]
    for name, (one, other) in pairs.items():
        if one != other:
            raise UserError(f"{log_dirs[0]} and {log_dirs[1]} differ in {name}: {one!r} and {other!r}, not alike")
    if arguments[0]["seed"] == arguments[1]["seed"]:
        raise UserError(f"{log_dirs[0]} and {log_dirs[1]} have the same --seed {arguments[0]['seed']}: one order only")


def nll_elsewhere(here: Order, there: Order) -> np.ndarray:
    """NLL that `there` gave to the same token of the same document, for every position of `here`, float32.

    NaN where it read no such token, between documents, and in the warm-up of either.
    """
    elsewhere, known = np.full_like(here.nll, np.nan), there.settled
    longest = there.longest_readings()
    for reading in here.readings:
        other = longest.get(reading.document)
        if other is not None:
            shared = min(reading.stop - reading.start, other.stop - other.start)
            elsewhere[reading.start : reading.start + shared] = known[other.start : other.start + shared]
    elsewhere[np.isnan(here.settled)] = np.nan
    return elsewhere


def bucket_table(here: Order, there: Order, size: int) -> list[dict[str, Any]]:
    """Rows per `size` positions of `here`: mean NLL, and over the tokens that `there` read too: share, both NLLs.

    unexplained: NLL here less there. excess: by how much that is over its value in the first bucket that has one.
    """
    elsewhere = nll_elsewhere(here, there)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(here.nll), size):
        nll, other = (array[start : start + size].astype(np.float64) for array in (here.nll, elsewhere))
        shared = ~np.isnan(other)
        row = {"start": start, "end": start + len(nll), "nll": mean(nll), "shared": round(float(shared.mean()), 4)}
        row |= {"nll_of_shared": mean(nll[shared]), "nll_elsewhere": mean(other[shared])}
        row["unexplained"] = row["nll_of_shared"] - row["nll_elsewhere"] if shared.any() else None
        rows.append(row)
    first = next((row["unexplained"] for row in rows if row["unexplained"] is not None), None)
    for row in rows:
        row["excess"] = None if row["unexplained"] is None else row["unexplained"] - first
    return rows


def mean(nll: np.ndarray) -> float | None:
    """Mean over the tokens that were scored; None without any."""
    scored = nll[~np.isnan(nll)]
    return float(scored.mean()) if len(scored) else None


def document_table(first: Order, second: Order) -> list[dict[str, Any]]:
    """Rows per document that both read completely: its beginning and mean NLL in either order, second less first.

    What lies in the warm-up of one counts in neither.
    """
    longest, settled = (first.longest_readings(), second.longest_readings()), (first.settled, second.settled)
    rows = []
    for name in sorted(longest[0].keys() & longest[1].keys()):
        readings = [found[name] for found in longest]
        if not all(reading.complete for reading in readings):
            continue
        nll = np.stack([values[at.start : at.stop] for values, at in zip(settled, readings)]).astype(np.float64)
        nll = nll[:, ~np.isnan(nll).any(axis=0)]
        if nll.size:
            starts, means = [at.start for at in readings], nll.mean(axis=1).tolist()
            row = {"document": name, "tokens": nll.shape[1], "starts": starts, "nll": means}
            rows.append(row | {"later_by": starts[1] - starts[0], "nll_difference": means[1] - means[0]})
    return rows


def trend(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of the documents' differences, and their least-squares slope over the distance.

    slope_per_million: nats per million tokens later, with a free intercept; its standard error is the usual one,
    sqrt(residual variance / sum of squared deviations). None where there are too few documents.
    """
    later = np.array([row["later_by"] for row in rows]) / 1e6
    difference = np.array([row["nll_difference"] for row in rows])
    found: dict[str, Any] = {"documents": len(rows), "mean": None, "deviation": None}
    found |= {"slope_per_million": None, "standard_error": None}
    if len(rows):
        found["mean"] = float(difference.mean())
    if len(rows) > 1:
        found["deviation"] = float(difference.std(ddof=1))
    spread = float(((later - later.mean()) ** 2).sum()) if len(rows) > 2 else 0.0
    if spread:
        slope = float(((later - later.mean()) * difference).sum()) / spread
        residuals = difference - difference.mean() - slope * (later - later.mean())
        found["slope_per_million"] = slope
        found["standard_error"] = float(np.sqrt((residuals**2).sum() / (len(rows) - 2) / spread))
    return found


def token_correlation(here: Order, there: Order) -> float | None:
    """Correlation of the NLL, here and there, of all tokens that both read: near 1, or they are not the same tokens."""
    elsewhere = nll_elsewhere(here, there)
    shared = ~np.isnan(elsewhere)
    return float(np.corrcoef(here.nll[shared], elsewhere[shared])[0, 1]) if shared.sum() > 1 else None


def number(value: float | None, form: str = "9.4f") -> str:
    return format("-", ">9") if value is None else format(value, form)


def show_documents(rows: list[dict[str, Any]], found: dict[str, Any]) -> None:
    print(f"{'document':<40} {'tokens':>9} {'begins at':>11} {'and at':>11} {'nll':>9} {'and':>9} {'less':>9}")
    for row in rows:
        starts, nll = row["starts"], row["nll"]
        print(
            f"{row['document']:<40} {row['tokens']:>9,} {starts[0]:>11,} {starts[1]:>11,} {number(nll[0])} "
            f"{number(nll[1])} {number(row['nll_difference'], '+9.4f')}"
        )
    signed = {name: number(found[name], "+.4f").strip() for name in ("mean", "slope_per_million")}
    spread = {name: number(found[name], ".4f").strip() for name in ("deviation", "standard_error")}
    print(
        f"{found['documents']} documents read completely in both orders: mean difference {signed['mean']}, standard "
        f"deviation {spread['deviation']}, slope {signed['slope_per_million']} ± {spread['standard_error']} nats per "
        "million tokens later"
    )


def show_buckets(order: Order, rows: list[dict[str, Any]]) -> None:
    print(f"\n{order.log_dir} (seed {order.seed}), excess over the first bucket that both orders know:")
    print(f"{'positions':>25} {'nll':>9} {'shared':>7} {'its nll':>9} {'elsewhere':>9} {'less':>9} {'excess':>9}")
    for row in rows:
        print(
            f"{row['start']:>12,}-{row['end'] - 1:>12,} {number(row['nll'])} {row['shared']:>7.1%} "
            f"{number(row['nll_of_shared'])} {number(row['nll_elsewhere'])} {number(row['unexplained'], '+9.4f')} "
            f"{number(row['excess'], '+9.4f')}"
        )


def largest_excess(orders: list[Order], tables: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """The bucket, of either order, whose NLL the text explains least. Raises UserError where they share no text."""
    found = [
        {"log_dir": str(order.log_dir), "seed": order.seed, "start": row["start"], "end": row["end"]}
        | {"excess": row["excess"]}
        for order, rows in zip(orders, tables)
        for row in rows
        if row["excess"] is not None
    ]
    if not found:
        raise UserError("the two streams have no token of a document in common: longer streams are needed")
    return max(found, key=lambda bucket: bucket["excess"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log_dirs", nargs=2, metavar="LOG_DIR")
    parser.add_argument("--bucket", type=whole_number(1), default=100_000, help="positions in a row (default: 100000)")
    parser.add_argument("--name", default="stream_1m_orders", help="of the results' file (default: %(default)s)")
    add_out_argument(parser)
    args = parser.parse_args()
    loaded = [load_order(log_dir) for log_dir in args.log_dirs]
    refuse_differences(loaded[0][1], loaded[1][1], args.log_dirs)
    orders = [order for order, _ in loaded]
    tables = [bucket_table(orders[0], orders[1], args.bucket), bucket_table(orders[1], orders[0], args.bucket)]
    worst = largest_excess(orders, tables)
    documents, correlation = document_table(*orders), token_correlation(*orders)
    found = trend(documents)
    show_documents(documents, found)
    for order, rows in zip(orders, tables):
        show_buckets(order, rows)
    print(f"\ncorrelation of the same tokens' NLL in both orders: {number(correlation).strip()}")
    verdict = "within" if worst["excess"] <= LIMIT else "NOT within"
    print(
        f"largest excess that the text does not explain: {worst['excess']:+.4f} nats, at {worst['start']:,}-"
        f"{worst['end'] - 1:,} of {worst['log_dir']}: {verdict} {LIMIT}"
    )
    buckets = {f"seed_{order.seed}": rows for order, rows in zip(orders, tables)}
    results = {"bucket": args.bucket, "limit": LIMIT, "largest_excess": worst, "trend": found}
    results["token_correlation"] = correlation
    path = save_results(args.out, args.name, "cpu", {**results, "documents": documents, "buckets": buckets})
    print(f"wrote {path}")


if __name__ == "__main__":
    run_main(main)
