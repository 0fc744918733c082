"""What a report says in the end: targets, where time goes, and what failed or was not reached."""

from benchmarks.gpu_parts import apart, targets
from benchmarks.gpu_parts.case import FAILED, NOT_REACHED, REFUSED
from benchmarks.gpu_parts.report import Report
from benchmarks.gpu_parts.sizes import Plan


def summarise(report: Report, plan: Plan) -> str:
    """The tables, which are put into the report as well, and a line for each case that has no number."""
    goals, rows = targets.targets(report, plan.sizes), apart.times_apart(report, plan.sizes)
    report.content |= {"targets": targets.as_found(goals), "layer_apart": rows}
    report.save()
    lines = [targets.table(goals), ""]
    if rows:
        lines += [apart.table(rows), ""]
    for state in (REFUSED, FAILED, NOT_REACHED):
        cases = [(part, case, found) for part, case, found in report.every_case() if found["state"] == state]
        lines += [f"{state}: {part}: {case}: {found['why'].splitlines()[0]}" for part, case, found in cases]
    lines += [f"beyond its bound: {name}" for name in failures(report) if name not in _failed(report)]
    return "\n".join(lines)


def failures(report: Report) -> list[str]:
    """The cases that failed or went beyond their bound."""
    wrong = [f"{part}: {case}" for part, case, found in report.every_case() if found.get("passed") is False]
    return wrong + _failed(report)


def _failed(report: Report) -> list[str]:
    return [f"{part}: {case}" for part, case, found in report.every_case() if found["state"] == FAILED]
