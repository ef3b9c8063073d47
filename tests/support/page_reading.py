"""Reading what a page shows, for tests."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """Collects the elements and texts that a browser would see."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] not in ("script", "style"):
            self.text += data


def table_under(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading."""
    table = page.split(f"<h3>{heading}</h3>", 1)[1].split("</table>", 1)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def text_of(page: str) -> str:
    return " ".join(Page(page).text.split())


def payload_of(page: str) -> dict[str, Any]:
    """Return the data inside a page."""
    packed = page.split('<script type="text/plain" id="data">')[1].split("</script>")[0]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def figure_of(page: str, name: str) -> dict[str, Any]:
    """Return the figure that is drawn in the element with this id."""
    return payload_of(page)["figures"][name]


def drawn_in(page: str) -> list[str]:
    """Return the ids of the elements that figures are drawn in, in their order on the page."""
    elements = [attributes for _, attributes in Page(page).elements]
    return [str(found["id"]) for found in elements if "plot" in (found.get("class") or "").split()]
