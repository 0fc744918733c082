"""The library of compiled passes, loaded where it is built for this machine; without it torch does the same."""

import ctypes
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
LIBRARY = FOLDER / "libattention.so"
MEMORY_MAP = Path("/proc/self/maps")
RUNTIMES = ("libgomp", "libiomp", "libomp")


@lru_cache(maxsize=8)
def compiled(name: str, arguments: Sequence[type]) -> Callable[..., None] | None:
    """The compiled pass of that name; None where it is not built from these sources for this machine."""
    function = getattr(_library(), name, None)
    if function is not None:
        function.argtypes, function.restype = list(arguments), None
    return function


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """None, too, where it loads another OpenMP than torch has: threads of two wait for each other. So on Linux only.

    Looked at once: what it has brought stays loaded.
    """
    if not LIBRARY.is_file() or not MEMORY_MAP.is_file() or _is_outdated():
        return None
    runtimes = openmp_runtimes()
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None
    return library if openmp_runtimes() == runtimes else None


@lru_cache(maxsize=1)
def say_not_built() -> None:
    logger.warning("%s is not there for this machine: torch does the same on the CPU, more slowly", LIBRARY.name)


def _is_outdated() -> bool:
    """In a clone; a wheel has the library alone."""
    built = LIBRARY.stat().st_mtime
    return any(source.stat().st_mtime > built for source in (*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h")))


def openmp_runtimes() -> set[str]:
    """Paths of those that this process has loaded; none where the system does not tell."""
    return loaded(RUNTIMES)


def loaded(names: tuple[str, ...]) -> set[str]:
    """Paths of the libraries that this process has loaded whose names begin with one of these."""
    try:
        lines = MEMORY_MAP.read_text(errors="replace").splitlines()
    except OSError:
        return set()
    paths = {line.split(maxsplit=5)[-1] for line in lines if "/" in line}
    return {path for path in paths if Path(path).name.startswith(names)}
