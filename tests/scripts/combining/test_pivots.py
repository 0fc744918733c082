"""Methods x lengths: one order of methods, and blocks that LaTeX sets apart."""

from scripts.combining.pivots import Placed, pivot
from scripts.combining.tables import FORMATS, SUFFIXES


def placed(task, method, length, score, failed=0):
    spread = {f"score{suffix}": None for suffix in SUFFIXES}
    record = {"trial": f"{task}-{method}-{length}", "method": method, "model": "tiny", "task": task, "metric": "f1"}
    return Placed(record | {"score": score, "failed": failed} | spread, length)


ROWS = [
    placed("qasper", "vanilla", 512, 0.25),
    placed("multi_news", "yarn", 512, 0.5),
    placed("multi_news", "vanilla", 512, 0.75),
    placed("qasper", "yarn", 512, 1.0),
]


def test_methods_have_one_order_in_all_blocks():
    assert [(row["task"], row["method"], row["512"]) for row in pivot(ROWS)] == [
        ("qasper", "vanilla", 0.25),
        ("qasper", "yarn", 1.0),
        ("multi_news", "vanilla", 0.75),
        ("multi_news", "yarn", 0.5),
    ]


def test_what_failed_stands_beside_the_score_that_is_without_it():
    rows = [placed("vt", "a", 512, 0.5), placed("vt", "a", 1024, 1.0, failed=8), placed("vt", "b", 512, 0.25)]
    assert FORMATS["markdown"](pivot(rows)).splitlines()[-2:] == [
        "| tiny | vt | f1 | a | 0.5000 | 1.0000 | 8 |",
        "| tiny | vt | f1 | b | 0.2500 | - | - |",
    ]
    assert list(pivot(rows)[0])[-1] == "1,024 failed" and "512 failed" not in pivot(rows)[0]


def test_a_method_of_which_everything_failed_has_no_score():
    assert FORMATS["text"](pivot([placed("vt", "a", 512, None, failed=3)])).splitlines()[-1].split()[-2:] == ["-", "3"]


def test_latex_sets_words_left_numbers_right_and_blocks_apart():
    assert FORMATS["latex"](pivot(ROWS)).splitlines() == [
        r"\begin{tabular}{llllr}",
        r"\toprule",
        r"model & task & metric & method & 512 \\",
        r"\midrule",
        r"tiny & qasper & f1 & vanilla & 0.2500 \\",
        r"tiny & qasper & f1 & yarn & 1.0000 \\",
        r"\midrule",
        r"tiny & multi\_news & f1 & vanilla & 0.7500 \\",
        r"tiny & multi\_news & f1 & yarn & 0.5000 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_blocks_of_one_row_and_other_tables_have_no_rules_in_between():
    one_method = [row for row in ROWS if row.record["method"] == "yarn"]
    for records in (pivot(one_method), [row.record for row in ROWS]):
        assert FORMATS["latex"](records).count(r"\midrule") == 1
    assert FORMATS["latex"]([row.record for row in ROWS]).startswith(r"\begin{tabular}{lllllrr}")
