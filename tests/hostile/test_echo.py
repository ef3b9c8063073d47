"""Text on its way to a terminal or a log: no controls, no passwords, not too long."""

import doctest
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress as Bar
from rich.table import Table

from lightsweep import echo
from lightsweep.echo import MOST_CHARACTERS, masked, one_line, plain, shortened
from lightsweep.errors import InputError
from lightsweep.system.terminal import open_console, say

HOSTILE = {
    "an escape sequence": "\x1b[2J\x1b]0;title\x07",
    "a C1 control": "\x9b31m",
    "a right-to-left override": "\u202egnp.exe",
    "an isolate": "\u2066x\u2069",
    "a line separator": "a\u2028b",
    "a zero-width space": "a\u200bb",
    "a backspace": "a\b\b\bb",
    "a tag": "\U000e0041",
    "a surrogate": "\udcff",
}


def test_the_examples_are_right() -> None:
    assert doctest.testmod(echo).failed == 0


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_controls_are_written_out(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert "\\x" in shown or "\\u" in shown or "\\U" in shown
    assert one_line(text).isprintable()
    assert str(InputError(text)).isprintable()


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_whatever_it_is_a_line_is_one_line_that_can_be_written(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert not set(shown) & set("\x1b\x9b\u202e\u2066\b\r\n")
    shown.encode()
    assert len(shown) <= MOST_CHARACTERS + 3


@given(st.text(alphabet="aé猫🙂 .,:;-_", max_size=200))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text
    assert masked(text) == text


def test_what_is_too_long_is_cut_in_its_middle() -> None:
    text = "beginning " + "x" * 10_000 + " end"
    assert shortened(text, 40).startswith("beginning xx")
    assert shortened(text, 40).endswith("xx end")
    assert str(InputError(text)).startswith("beginning")
    assert len(str(InputError(text))) < 1_100


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hunter2@host:5432/db",
        "mysql+x://me:hun/ter2@x@host/db and more: hunter2 is not shown".replace("hunter2 is", "it is"),
        "search.storge = 'postgresql://me:hunter2@host/db': unknown key",
        "password=hunter2 token: hunter2, API_KEY=hunter2",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    shown = masked(text)
    assert "hunter2" not in shown
    assert "ter2" not in shown
    assert "…" in shown


def test_an_address_without_a_password_stays() -> None:
    for text in ("postgresql://me@host:5432/db", "ray://10.0.0.1:10001"):
        assert masked(text) == text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_that_is_printed_controls_the_terminal(text: str, terminal: bool) -> None:
    """Lines, tables and bars alike; the console's own colours and cursor movements stay."""
    file = io.StringIO()
    console = open_console(file)
    console._force_terminal = terminal
    table = Table("a", "b")
    table.add_row(text, "x")
    say(console, f"a line {text}")
    console.print(table)
    with Bar(console=console, transient=True) as bar:
        bar.add_task(text, total=2)
    said = file.getvalue()
    own = said.replace("\x1b[2K", "").replace("\x1b[1A", "").replace("\x1b[?25l", "").replace("\x1b[?25h", "")
    assert not set(text) - set("ab xgnpe.[]0;title31mJ2") & set(own.replace("\x1b[", ""))
    assert text not in said


def test_the_consoles_own_controls_stay() -> None:
    file = io.StringIO()
    console = open_console(file)
    console._force_terminal = True
    console._color_system = console._color_system or None
    with Bar(console=console, transient=True) as bar:
        bar.add_task("a", total=1)
    assert "\x1b[" in file.getvalue()
