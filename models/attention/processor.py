"""The processor, as the system tells of it."""

import platform
from pathlib import Path

PROCESSORS = Path("/proc/cpuinfo")
NAME, FAMILY, MODEL = "model name", "cpu family", "model"
TOLD = (NAME, FAMILY, MODEL, "flags", "Features", "CPU implementer", "CPU part", "CPU variant")


def processor_name() -> str:
    """The model name that Linux gives, with the family and model that tell two of one name apart; else the
    architecture.
    """
    told = _told()
    if NAME not in told:
        return platform.machine()
    numbers = [told[key] for key in (FAMILY, MODEL) if key in told]
    return " ".join([told[NAME], *([f"({'/'.join(numbers)})"] if numbers else [])])


def everything_told() -> str:
    """Its name, which of that name it is, and what it can do."""
    return " ".join(_told().values()) or f"{platform.machine()} {platform.processor()}"


def _told() -> dict[str, str]:
    """Empty where the system tells nothing."""
    try:
        lines = PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    fields = (line.partition(":") for line in lines)
    return {name.strip(): " ".join(value.split()) for name, _, value in fields if name.strip() in TOLD}
