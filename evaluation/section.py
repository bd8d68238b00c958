"""A section of a report: a table, its picture, and the sentence that says what it answers; as JSON, CSV, PNG and HTML."""

import base64
import csv
import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.atomic_write import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | None
BAR, ESCAPED_BAR = "|", "\\|"  # between the cells of a Markdown table, and within one

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
 body {{ font: 15px/1.5 system-ui, sans-serif; color: #1d3557; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }}
 h1 {{ font-size: 1.6rem; margin-bottom: .2rem; }} h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .2rem; }}
 p {{ margin: .3rem 0 .8rem; max-width: 50rem; }} .note {{ color: #6b7c85; font-size: .87rem; }}
 nav a {{ margin-right: 1rem; }} a {{ color: #2a9d8f; }} img {{ max-width: min(100%, 56rem); height: auto; display: block; }}
 .table {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-size: .87rem; margin: .6rem 0; }}
 th, td {{ padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #e6ecef; white-space: nowrap; }}
 th {{ border-bottom: 2px solid #6b7c85; vertical-align: bottom; }} th:first-child, td:first-child {{ text-align: left; }}
 td.text, th.text {{ text-align: left; }} tbody tr:hover {{ background: #f4f7f8; }}
</style></head><body>
<h1>{title}</h1>
<p class="note">{about}</p>
<nav>{contents}</nav>
{body}
</body></html>
"""


@dataclass(frozen=True, eq=False)
class Section:
    """A table with its picture.

    Attributes:
        name: for files: letters, digits, `-`.
        title: for people.
        text: what the table answers, in a sentence or two.
        columns: its head.
        rows: its lines; figures in percent.
        measured_on: clips, speakers, data.
        note: what is missing, and why.
        draw: makes the picture; None where there is nothing to draw.
    """

    name: str
    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    measured_on: str = ""
    note: str = ""
    draw: Callable[[], "Figure"] | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the picture; rows as objects."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"name": self.name, "title": self.title, "measured_on": self.measured_on, "note": self.note, "rows": rows}

    def to_csv(self) -> str:
        """The table."""
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return written.getvalue()

    def to_markdown(self) -> str:
        """The table, for documents."""
        head = [f"| {' | '.join(self.columns)} |", f"|{'---|' * len(self.columns)}"]
        lines = [f"| {' | '.join(cell_text(value).replace(BAR, ESCAPED_BAR) for value in row)} |" for row in self.rows]
        return "\n".join([*head, *lines]) + "\n"

    def to_png(self) -> bytes | None:
        """The picture; None where there is nothing to draw."""
        if self.draw is None or not self.rows:
            return None
        written = io.BytesIO()
        self.draw().savefig(written, format="png", dpi=150)
        return written.getvalue()

    def to_html(self, png: bytes | None) -> str:
        """Heading, picture, table."""
        parts = [f'<h2 id="{self.name}">{html.escape(self.title)}</h2><p>{html.escape(self.text)}</p>']
        if png:
            picture = base64.b64encode(png).decode()
            parts.append(f'<img alt="{html.escape(self.title)}" src="data:image/png;base64,{picture}">')
        if self.rows:
            kinds = (
                " class=text" if any(isinstance(row[at], str) for row in self.rows) else "" for at in range(len(self.columns))
            )
            head = "".join(f"<th{kind}>{html.escape(name)}</th>" for kind, name in zip(kinds, self.columns, strict=True))
            lines = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in self.rows)
            parts.append(f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>')
        said = "; ".join(filter(None, (self.measured_on, self.note)))
        return "\n".join([*parts, f'<p class="note">{html.escape(said)}</p>' if said else ""])

    def write(self, folder: Path) -> bytes | None:
        """Write `NAME.json`, `NAME.csv`, `NAME.md` and, where there is one, `NAME.png`, which is given back.

        Raises:
            FileError: they cannot be written.
        """
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=1) + "\n"
        write_atomic(text.encode(), folder / f"{self.name}.json", parents=True)
        write_atomic(self.to_csv().encode(), folder / f"{self.name}.csv", parents=True)
        write_atomic(self.to_markdown().encode(), folder / f"{self.name}.md", parents=True)
        png = self.to_png()
        if png:
            write_atomic(png, folder / f"{self.name}.png", parents=True)
        return png


def _html_cell(value: Cell) -> str:
    return f"<td class=text>{html.escape(value)}</td>" if isinstance(value, str) else f"<td>{cell_text(value)}</td>"


def cell_text(value: Cell) -> str:
    """A figure with one digit behind the point, counts whole, nothing as nothing."""
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def write_page(sections: Sequence[Section], pictures: Sequence[bytes | None], path: Path, title: str, about: str) -> None:
    """Write all sections as one HTML page that needs no other file.

    Raises:
        FileError: it cannot be written.
    """
    contents = "".join(f'<a href="#{each.name}">{html.escape(each.title)}</a>' for each in sections)
    body = "\n".join(each.to_html(png) for each, png in zip(sections, pictures, strict=True))
    page = PAGE.format(title=html.escape(title), about=html.escape(about), contents=contents, body=body)
    write_atomic(page.encode(), path, parents=True)
