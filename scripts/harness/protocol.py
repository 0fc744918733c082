"""The flag --protocol NAME: the flags together with which numbers stand beside the published ones."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from utils.arguments import HarnessParser
from utils.errors import UserError

PUBLISHED = "published"
Published = Mapping[str, Any] | Callable[[Namespace], Mapping[str, Any]]
"""The arguments that the published protocol fixes, or a function from what is given to them, which raises UserError
where there is none."""


def add_protocol_arguments(parser: HarnessParser, published: Published, stands_for: str) -> None:
    """--protocol; once parsed, the arguments are those that it stands for, which `stands_for` says in words."""
    parser.add_argument_group("protocol").add_argument(
        "--protocol",
        choices=(PUBLISHED,),
        help=f"published: as the published numbers were made, {stands_for} (default: what the flags say)",
    )
    # Before all other checks, which see its values as if they had been given.
    parser.checks.insert(0, partial(_apply, parser=parser, published=published))


def _apply(arguments: Namespace, parser: HarnessParser, published: Published) -> None:
    if arguments.protocol is None:
        return
    flags = published(arguments) if callable(published) else published
    for name, value in flags.items():
        if name in parser.given and getattr(arguments, name) != value:
            raise UserError(
                f"--{name} {getattr(arguments, name)} contradicts --protocol {PUBLISHED}, which stands for "
                f"--{name}{'' if value is True else f' {value}'}"
            )
        setattr(arguments, name, value)
