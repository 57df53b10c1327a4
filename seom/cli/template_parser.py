"""Parses Go templates, as taken by --format, into a tree.

The grammar is the part of Go's text/template that --format users write: actions with pipelines,
if, with and range with else, break and continue, variables, comments, trimming dashes.
Nested templates (define, template, block) are left out. Written without `re`, whose import
would double the time of `ps`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

_BLANK = " \t\r\n"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "0": "\0"}


class TemplateError(ValueError):
    """The template cannot be parsed, or not applied to this data."""


class Token:
    """kind is one of field, variable, word, string, number, dot, or the punctuation itself."""

    __slots__ = ("kind", "position", "spaced", "text", "value")

    def __init__(self, kind: str, text: str, position: int, spaced: bool, value: Any = None) -> None:
        self.kind = kind
        self.text = text
        self.position = position
        self.spaced = spaced
        self.value = value


class Node:
    """kind: text, action, if, with, range, break, continue. See Parser for what else is set."""

    __slots__ = ("body", "kind", "otherwise", "pipeline", "text")

    def __init__(self, kind: str, text: str = "", pipeline: Pipeline | None = None) -> None:
        self.kind = kind
        self.text = text
        self.pipeline = pipeline
        self.body: list[Node] = []
        self.otherwise: list[Node] = []


class Pipeline:
    """Commands joined by "|"; variables are those declared (":=") or assigned ("=")."""

    __slots__ = ("commands", "declares", "variables")

    def __init__(self) -> None:
        self.variables: list[str] = []
        self.declares = True
        self.commands: list[list[Operand]] = []


class Operand:
    """kind: dot, field, variable, function, constant, group; then the fields taken from it."""

    __slots__ = ("fields", "kind", "name", "position", "value")

    def __init__(self, kind: str, position: int, name: str = "", value: Any = None) -> None:
        self.kind = kind
        self.position = position
        self.name = name
        self.value = value
        self.fields: list[str] = []

    def spelling(self) -> str:
        """As error messages quote it."""
        base = {"variable": self.name, "function": self.name, "constant": self.name, "group": "(...)"}.get(
            self.kind, ""
        )
        return base + "".join(f".{field}" for field in self.fields) or "."


def parse(text: str, functions: Container[str]) -> list[Node]:
    """The tree of a template that may call these functions, and and, or. Raises TemplateError."""
    return _Parser(text, functions).parse()


def _is_name(character: str) -> bool:
    return character.isalnum() or character == "_"


def tokens_of(action: str, offset: int) -> list[Token]:
    """Split the inside of an action; offset is its place in the template, for error positions."""
    found: list[Token] = []
    index, spaced = 0, True
    while index < len(action):
        character = action[index]
        if character in _BLANK:
            index, spaced = index + 1, True
            continue
        end = _token_end(action, index)
        text = action[index:end]
        kind, value = _classify(text)
        found.append(Token(kind, text, offset + index, spaced, value))
        index, spaced = end, False
    return found


def _token_end(action: str, start: int) -> int:
    character = action[start]
    end = start + 1
    if character in "\"'`":
        while end < len(action) and action[end] != character:
            end += 2 if action[end] == "\\" and character != "`" else 1
        if end >= len(action):
            raise TemplateError("unterminated quoted string")
        return end + 1
    if action.startswith(":=", start):
        return start + 2
    signed = character in "+-" and action[end : end + 1].isdigit()
    if character in ".$" or _is_name(character) or signed:
        number = character.isdigit() or signed
        while end < len(action) and (_is_name(action[end]) or (number and action[end] == ".")):
            end += 1
    return end


def _classify(text: str) -> tuple[str, Any]:
    first = text[0]
    if first == "`":
        return "string", text[1:-1]
    if first in "\"'":
        value = _unescape(text[1:-1])
        return ("string", value) if first == '"' else ("number", ord(value))
    if first == "$":
        return "variable", None
    if first == ".":
        return ("field", text[1:]) if len(text) > 1 else ("dot", None)
    if first.isdigit() or (first in "+-" and len(text) > 1):
        try:
            return "number", float(text) if "." in text else int(text, 0)
        except ValueError:
            raise TemplateError(f"bad number syntax: {text!r}") from None
    if _is_name(first):
        return "word", None
    if text in (":=", "=", "|", "(", ")", ","):
        return text, None
    raise TemplateError(f"unexpected {text!r} in operand")


def _unescape(text: str) -> str:
    pieces, index = [], 0
    while index < len(text):
        if text[index] == "\\" and index + 1 < len(text):
            letter = text[index + 1]
            if letter in "xuU":
                digits = {"x": 2, "u": 4, "U": 8}[letter]
                pieces.append(chr(int(text[index + 2 : index + 2 + digits], 16)))
                index += 2 + digits
                continue
            pieces.append(_ESCAPES.get(letter, "\\" + letter))
            index += 2
        else:
            pieces.append(text[index])
            index += 1
    return "".join(pieces)


class _Parser:
    def __init__(self, text: str, functions: Container[str]) -> None:
        self.text = text
        self.functions = functions
        self.position = 0
        self.tokens: list[Token] = []
        self.cursor = 0

    def parse(self) -> list[Node]:
        nodes, ended_by = self.block(top=True)
        if ended_by:
            raise TemplateError(f"unexpected {{{{{ended_by}}}}}")
        return nodes

    def block(self, top: bool = False) -> tuple[list[Node], str]:
        """Nodes up to {{end}} or {{else}}, which is returned beside them."""
        nodes: list[Node] = []
        while True:
            text, action = self.next_action()
            if text:
                nodes.append(Node("text", text))
            if action is None:
                if not top:
                    raise TemplateError("unexpected EOF")
                return nodes, ""
            if not self.tokens:
                if action.strip().startswith("/*"):
                    continue
                raise TemplateError("missing value for command")
            word = self.tokens[0].text
            if word in ("end", "else"):
                return nodes, word
            nodes.append(self.node(word))

    def next_action(self) -> tuple[str, str | None]:
        """The text before the next action, trimmed as its dashes say, and the action's inside."""
        text = self.text
        start = text.find("{{", self.position)
        before = text[self.position :] if start < 0 else text[self.position : start]
        if start < 0:
            self.position = len(text)
            return before, None
        inside = start + 2
        if text.startswith("- ", inside) or text.startswith(("-\n", "-\t", "-/*"), inside):
            before = before.rstrip(_BLANK)
            inside += 1
        end = self.action_end(inside)
        self.position = end + 2
        content = text[inside:end]
        if len(content) > 1 and content[-1] == "-" and content[-2] in _BLANK + "/":
            content = content[:-1]
            while self.position < len(text) and text[self.position] in _BLANK:
                self.position += 1
        self.tokens = [] if content.strip().startswith("/*") else tokens_of(content, inside)
        self.cursor = 0
        return before, content

    def action_end(self, start: int) -> int:
        index, quote = start, ""
        inside = self.text[start:].lstrip(_BLANK)
        if inside.startswith("/*"):
            index = self.text.find("*/", start) + 2
            if index < 2:
                raise TemplateError("unclosed comment")
        while index < len(self.text):
            character = self.text[index]
            if quote:
                if character == "\\" and quote != "`":
                    index += 1
                elif character == quote:
                    quote = ""
            elif character in "\"'`":
                quote = character
            elif self.text.startswith("}}", index):
                return index
            index += 1
        raise TemplateError("unclosed action")

    def node(self, word: str) -> Node:
        if word in ("if", "with", "range"):
            self.cursor = 1
            return self.control(word)
        if word in ("break", "continue"):
            return Node(word)
        if word in ("define", "template", "block"):
            raise TemplateError(f"{{{{{word}}}}} is not supported here")
        return Node("action", pipeline=self.whole_pipeline())

    def control(self, word: str) -> Node:
        node = Node(word, pipeline=self.whole_pipeline())
        node.body, ended_by = self.block()
        if ended_by == "else":
            if len(self.tokens) > 1 and self.tokens[1].text in ("if", "with"):
                self.cursor = 2
                node.otherwise = [self.control(self.tokens[1].text)]
            else:
                node.otherwise, ended_by = self.block()
                if ended_by != "end":
                    raise TemplateError("expected end; found {{else}}")
        return node

    def whole_pipeline(self) -> Pipeline:
        pipeline = self.pipeline()
        if self.cursor < len(self.tokens):
            raise TemplateError(f"unexpected {self.tokens[self.cursor].text!r} in command")
        return pipeline

    def peek(self, ahead: int = 0) -> str:
        index = self.cursor + ahead
        return self.tokens[index].kind if index < len(self.tokens) else ""

    def pipeline(self) -> Pipeline:
        pipeline = Pipeline()
        self.declaration(pipeline)
        while True:
            pipeline.commands.append(self.command())
            if self.peek() != "|":
                return pipeline
            self.cursor += 1

    def declaration(self, pipeline: Pipeline) -> None:
        count = 2 if self.peek(1) == "," else 1
        if self.peek() == "variable" and self.peek(2 * count - 1) in (":=", "="):
            pipeline.declares = self.peek(2 * count - 1) == ":="
            pipeline.variables = [self.tokens[self.cursor + 2 * i].text for i in range(count)]
            self.cursor += 2 * count

    def command(self) -> list[Operand]:
        operands = []
        while self.peek() not in ("", "|", ")"):
            operands.append(self.operand())
        if not operands:
            raise TemplateError("missing value for command")
        return operands

    def operand(self) -> Operand:
        token = self.tokens[self.cursor]
        self.cursor += 1
        if token.kind == "(":
            operand = Operand("group", token.position, value=self.pipeline())
            if self.peek() != ")":
                raise TemplateError("unclosed left paren")
            self.cursor += 1
        elif token.kind == "field":
            operand = Operand("field", token.position)
            operand.fields.append(token.value)
        elif token.kind in ("dot", "variable"):
            operand = Operand(token.kind, token.position, token.text)
        elif token.kind in ("string", "number"):
            return Operand("constant", token.position, token.text, token.value)
        elif token.text in ("true", "false", "nil"):
            return Operand(
                "constant", token.position, token.text, {"true": True, "false": False}.get(token.text)
            )
        elif token.kind == "word":
            if token.text not in ("and", "or") and token.text not in self.functions:
                raise TemplateError(f'function "{token.text}" not defined')
            operand = Operand("function", token.position, token.text)
        else:
            raise TemplateError(f"unexpected {token.text!r} in operand")
        while self.peek() == "field" and not self.tokens[self.cursor].spaced:
            if len(operand.fields) == (operand.kind == "field"):
                operand.position = self.tokens[self.cursor].position
            operand.fields.append(self.tokens[self.cursor].value)
            self.cursor += 1
        return operand
