"""The pages that users read, and the fenced blocks in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its first line in the page, from 1."""

    language: str
    code: str
    line: int


@dataclass(frozen=True)
class Page:
    """path: from the repository's root."""

    path: str
    text: str

    def blocks(self, language: str) -> list[Block]:
        """Those of one language, in their order."""
        return [
            Block(match[2], match[3], self.text[: match.start(3)].count("\n") + 1)
            for match in FENCE.finditer(self.text)
            if match[2] == language
        ]

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return FENCE.sub("", self.text)


def read_pages() -> list[Page]:
    """README, CONTRIBUTING and all of docs/."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [Page(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]
