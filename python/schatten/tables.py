"""Columns of numbers that print themselves: as wide as the terminal, as HTML, as a DataFrame, as JSON."""

from __future__ import annotations

import html
import json
import math
import os
import shutil
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from typing_extensions import override

Row = dict[str, Any]
MOST_ROWS = 60


class Shown(NamedTuple):
    """A column of the printed table: which of a row's numbers it shows, and how soon it gives way where there is no room."""

    head: str
    cell: Callable[[Row], str]
    importance: int  # 0 stays


class Table(dict[str, list[Any]]):
    """A dict of columns, all of one length."""

    def shown(self) -> list[Shown]:
        """The columns that are printed; the first is the name, which is shortened last."""
        return [Shown(name, lambda row, name=name: number(row[name]), i) for i, name in enumerate(self)]  # type: ignore[misc]

    def remarks(self) -> list[str]:
        """Sentences below the table."""
        return []

    def rows(self) -> list[Row]:
        return [dict(zip(self, values, strict=True)) for values in zip(*self.values(), strict=True)]

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with the same columns."""
        try:
            import pandas
        except ImportError:
            raise ImportError(
                "[schatten] expected pandas for to_pandas(), got none\n  pip install pandas; the columns are a dict without it.",
                name="pandas",
            ) from None
        return pandas.DataFrame(dict(self))

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """``{"rows": [{column: value}, ...]}`` and what else there is to say; what is no number is null. ``path``: written there, too."""
        text = json.dumps(plain({**self.about(), "rows": self.rows()}), allow_nan=False)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text + "\n")
        return text

    def about(self) -> dict[str, Any]:
        return {}

    @override
    def __repr__(self) -> str:
        return self.to_text(shutil.get_terminal_size((100, 24)).columns)

    def to_text(self, width: int = 100) -> str:
        """The table within ``width`` columns (at least 40)."""
        width = max(width, 40)
        rows, left_out = _both_ends(self.rows())
        cells = [[column.head, *(column.cell(row) for row in rows)] for column in self.shown()]
        lines = _lines(_fitted(cells, [c.importance for c in self.shown()], width), width)
        if left_out:
            half = 1 + MOST_ROWS // 2
            lines[half:half] = [f"... {left_out} more; the columns hold them all"]
        below = [line for remark in self.remarks() for line in textwrap.wrap(remark, width)]
        return "\n".join([*lines, *below])

    def _repr_html_(self) -> str:
        rows, left_out = _both_ends(self.rows())
        head = "".join(f"<th>{html.escape(column.head)}</th>" for column in self.shown())
        body = "".join("<tr>" + "".join(f"<td>{html.escape(column.cell(row))}</td>" for column in self.shown()) + "</tr>" for row in rows)
        more = [f"{left_out} more rows in the middle; the columns hold them all."] if left_out else []
        remarks = "".join(f"<p>{html.escape(remark)}</p>" for remark in [*more, *self.remarks()])
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{remarks}"


def number(value: Any) -> str:
    """Four digits that mean something; "-" where there is no number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plain(value: Any) -> Any:
    """Numbers that JSON has no word for as null."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _both_ends(rows: list[Row]) -> tuple[list[Row], int]:
    left_out = max(len(rows) - MOST_ROWS, 0)
    return (rows[: MOST_ROWS // 2] + rows[-MOST_ROWS // 2 :] if left_out else rows), left_out


def _wide(cells: Iterable[str]) -> int:
    return max(map(len, cells))


def _fitted(cells: list[list[str]], importance: Sequence[int], width: int) -> list[list[str]]:
    """Without the least important columns, until the name has the room that it wants, or 20."""
    name = min(_wide(cells[0]), 20)
    kept = list(range(len(cells)))
    while len(kept) > 1 and name + sum(2 + _wide(cells[i]) for i in kept[1:]) > width:
        last = max(kept[1:], key=lambda i: importance[i])
        if importance[last] == 0:
            break
        kept.remove(last)
    return [cells[i] for i in kept]


def _lines(cells: list[list[str]], width: int) -> list[str]:
    widths = [_wide(column) for column in cells]
    widths[0] = max(min(widths[0], width - sum(2 + w for w in widths[1:])), 8)
    cells[0] = [shortened(name, widths[0]) for name in cells[0]]
    text = [cells[0][0].ljust(widths[0]), *(cells[0][i].ljust(widths[0]) for i in range(1, len(cells[0])))]
    for column, wide in zip(cells[1:], widths[1:], strict=True):
        text = [line + "  " + cell.rjust(wide) for line, cell in zip(text, column, strict=True)]
    return [line.rstrip() for line in text]


def shortened(name: str, width: int) -> str:
    """Something left out near its beginning: names of weights differ at their ends."""
    if len(name) <= width:
        return name
    head = (width - 1) // 3
    return name[:head] + "…" + name[len(name) - (width - 1 - head) :]
