"""Terminal output; all text goes through here and is escaped (see `echo`)."""

import errno
import os
from collections.abc import Iterator
from typing import IO

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.markup import escape
from rich.segment import Segment

from lightsweep.echo import masked, plain


def open_console(file: IO[str] | None = None) -> Console:
    """Return a console for standard output, or another text file, that escapes control characters."""
    console = _Console(file=file)
    console.push_render_hook(_Escaping())
    return console


def cell(text: str) -> str:
    """Return text escaped for a cell of a table or tree, where rich would treat [brackets] as markup."""
    return escape(masked(text))


def say(console: Console, text: str) -> None:
    """Print a line unchanged, without wrapping."""
    console.print(masked(text), markup=False, highlight=False, soft_wrap=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, so that the caller decides; rich itself would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class _Escaping(RenderHook):
    """Escapes the rendered text of everything printed, but not the console's own control codes."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(renderable) for renderable in renderables]


class _Escaped:
    def __init__(self, inner: ConsoleRenderable) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)
