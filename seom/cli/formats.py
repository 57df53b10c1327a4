"""--format: tables, JSON and templates, the same for every listing.

A row is an object with `field(name)`; its columns are functions of one piece of API data, so a
template pays only for what it shows.
"""

from __future__ import annotations

from seom.cli import output
from seom.cli.errors import CommandError
from seom.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from seom.cli.flags import Options
    from seom.cli.template import Template

TABLE_FORMAT = Flag(
    "format",
    "string",
    "Format output using a custom template: 'table' (default), 'table TEMPLATE', 'json', or a Go template",
    complete="table json",
)
DOCUMENT_FORMAT = Flag(
    "format",
    "string",
    "Format output using a custom template: 'json' or a Go template",
    short="f",
    complete="json",
)
PADDING = 3


def parse_template(text: str, status: int) -> Template:
    """Parse a template. Raises CommandError with that status for one that is wrong."""
    from seom.cli.template import Template, TemplateError

    try:
        return Template(text)
    except TemplateError as error:
        raise CommandError(str(error), status) from None


class DocumentTemplate:
    """A template applied to whole documents; its errors end the command."""

    def __init__(self, text: str) -> None:
        self._template = parse_template("{{json .}}" if text == "json" else text, 64)

    def render(self, data: Any) -> str:
        """The text, or CommandError."""
        try:
            return self._template.render(data)
        except ValueError as error:
            raise CommandError(f"template parsing error: {error}") from None


def document_template(options: Options) -> DocumentTemplate | None:
    """The template of --format for a document, None when none was asked for."""
    text = options.text("format")
    return DocumentTemplate(text) if text else None


class Columns:
    """The columns a listing knows: name -> (heading, function of the API's data)."""

    def __init__(self, columns: dict[str, tuple[str, Callable[[Any], Any]]]) -> None:
        self.columns = columns

    def headings(self) -> Row:
        """A row that shows the headings."""
        return Row({name: (head, _constant(head)) for name, (head, _) in self.columns.items()}, None)

    def row(self, data: Any) -> Row:
        """A row that shows data."""
        return Row(self.columns, data)


def _constant(value: str) -> Callable[[Any], Any]:
    return lambda _: value


class Row:
    """One line of a listing."""

    __slots__ = ("_columns", "_data")

    def __init__(self, columns: dict[str, tuple[str, Callable[[Any], Any]]], data: Any) -> None:
        self._columns = columns
        self._data = data

    def field(self, name: str) -> Any:
        """A column's value. Raises KeyError."""
        return self._columns[name][1](self._data)

    def plain(self) -> dict[str, Any]:
        """Every column that is a value, by name, sorted: what {{json .}} shows."""
        values = {name: self.field(name) for name in sorted(self._columns)}
        return {name: value for name, value in values.items() if not callable(value)}


def align(rows: Sequence[Sequence[str]], minimum: int = 10) -> str:
    """Lines of columns, each at least `minimum` wide with PADDING blanks; the last one is not padded."""
    widths: list[int] = []
    for row in rows:
        for index, cell in enumerate(row[:-1]):
            if index >= len(widths):
                widths.append(minimum)
            widths[index] = max(widths[index], len(cell) + PADDING)
    lines = []
    for row in rows:
        padded = [cell.ljust(widths[index]) for index, cell in enumerate(row[:-1])]
        lines.append("".join([*padded, row[-1]]) if row else "")
    return "\n".join(lines) + "\n"


def show_rows(
    columns: Columns, items: Iterable[Any], text: str, default: Sequence[str], *, sep: str = "\n"
) -> None:
    """Print items as --format (text) says; "" and "table" show the default columns."""
    output.write(format_rows(columns, items, text, default))


def format_rows(columns: Columns, items: Iterable[Any], text: str, default: Sequence[str]) -> str:
    """What show_rows prints."""
    if text in ("", "table"):
        rows = [[columns.columns[name][0] for name in default]]
        rows.extend([str(columns.columns[name][1](item)) for name in default] for item in items)
        return align(rows)
    is_table = text.startswith(("table ", "table\t"))
    source = "{{json .}}" if text == "json" else _unescape(text[6:] if is_table else text)
    template = parse_template(source, 1)
    try:
        lines = [template.render(columns.row(item)) for item in items]
        if not is_table:
            return "".join(f"{line}\n" for line in lines)
        lines.insert(0, template.render(columns.headings()))
    except ValueError as error:
        raise CommandError(f"template parsing error: {error}") from None
    return align([line.split("\t") for line in lines])


def _unescape(text: str) -> str:
    """A literal \\t or \\n typed in a shell is what it stands for."""
    return text.replace("\\t", "\t").replace("\\n", "\n")
