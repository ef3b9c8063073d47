"""The terminal: the one way by which text reaches it, escaped (`echo`)."""

import errno
import os
from collections.abc import Iterator
from typing import IO

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.markup import escape
from rich.segment import Segment

from lightsweep.echo import masked, plain


def open_console(file: IO[str] | None = None) -> Console:
    """Return a console for standard output, or another text file, that shows no text as a control."""
    console = _Console(file=file)
    console.push_render_hook(_Escaping())
    return console


def cell(text: str) -> str:
    """Return text for a cell of a table, or a tree, where rich would take [brackets] for markup."""
    return escape(masked(text))


def say(console: Console, text: str) -> None:
    """Print a line as it is, be it as long as it may."""
    console.print(masked(text), markup=False, highlight=False, soft_wrap=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the caller what a closed pipe means; rich itself would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class _Escaping(RenderHook):
    """Escapes what anything that is printed is rendered to; the console's own controls stay."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(renderable) for renderable in renderables]


class _Escaped:
    def __init__(self, inner: ConsoleRenderable) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)
