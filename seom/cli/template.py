"""Applies Go templates to JSON-like data: what --format does.

    Template('{{range .Mounts}}{{.Source}} {{end}}').render(container)

Data is made of dicts, lists, strings, numbers, booleans and None. An object with a method
`field(name)` stands for a row whose columns are computed when they are asked for; a column that
is a function is called with the rest of the command's operands ({{.Label "a"}}).
"""

from __future__ import annotations

from seom.cli import template_parser
from seom.cli.template_functions import FUNCTIONS, show, truth
from seom.cli.template_parser import Node, Operand, Pipeline, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Template", "TemplateError"]

# Where the API's types are maps, a missing key is an empty value; elsewhere it is a wrong name.
_MAPS = frozenset(
    (
        *("Labels", "Networks", "Ports", "Options", "Sysctls", "Volumes", "ExposedPorts", "Data"),
        *("Annotations", "Config", "Tmpfs", "DriverOpts", "Containers", "PortBindings", "StorageOpt"),
        "Attributes",
    )
)
# What the API leaves out when there is nothing to say.
_OPTIONAL = frozenset(
    (
        *("Health", "Healthcheck", "SizeRw", "SizeRootFs", "UsageData", "Mountpoint", "Labels", "Error"),
        *("StopTimeout", "Volumes", "ExposedPorts", "OnBuild", "Mounts", "Annotations", "Tmpfs", "Sysctls"),
        *("RepoTags", "RepoDigests", "Parent", "Comment", "Author", "Descriptor", "IPAMConfig"),
    )
)


class _LoopControl(Exception):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Template:
    """A parsed template. Raises TemplateError from the constructor and from render."""

    def __init__(self, text: str) -> None:
        try:
            self._nodes = template_parser.parse(text, FUNCTIONS)
        except TemplateError as error:
            raise TemplateError(f"template parsing error: template: :1: {error}") from None
        self._text = text

    def render(self, data: Any) -> str:
        """The text for one row or document."""
        evaluation = _Evaluation(self._text, data)
        evaluation.run(self._nodes, data)
        return "".join(evaluation.pieces)


class _Evaluation:
    def __init__(self, text: str, data: Any) -> None:
        self.text = text
        self.pieces: list[str] = []
        self.variables: list[tuple[str, Any]] = [("$", data)]

    def run(self, nodes: list[Node], dot: Any) -> None:
        for node in nodes:
            if node.kind == "text":
                self.pieces.append(node.text)
            elif node.kind in ("break", "continue"):
                raise _LoopControl(node.kind)
            else:
                depth = len(self.variables)
                assert node.pipeline is not None
                if node.kind == "action":
                    value = self.pipeline(node.pipeline, dot)
                    if not node.pipeline.variables:
                        self.pieces.append(show(value))
                    continue
                if node.kind == "range":
                    self.loop(node, node.pipeline, dot)
                else:
                    value = self.pipeline(node.pipeline, dot)
                    inner = value if node.kind == "with" and truth(value) else dot
                    self.run(node.body if truth(value) else node.otherwise, inner)
                del self.variables[depth:]

    def loop(self, node: Node, pipeline: Pipeline, dot: Any) -> None:
        names, pipeline_value = pipeline.variables, self.commands(pipeline, dot)
        if isinstance(pipeline_value, dict):
            items = [(key, pipeline_value[key]) for key in sorted(pipeline_value)]
        elif isinstance(pipeline_value, int) and not isinstance(pipeline_value, bool):
            items = [(number, number) for number in range(pipeline_value)]
        elif pipeline_value is None or isinstance(pipeline_value, (list, tuple)):
            items = list(enumerate(pipeline_value or ()))
        else:
            raise TemplateError(f"range can't iterate over {show(pipeline_value)}")
        depth = len(self.variables)
        for key, value in items:
            pair = (key, value) if len(names) == 2 else (value,)
            self.variables.extend(zip(names, pair, strict=False))
            try:
                self.run(node.body, value)
            except _LoopControl as control:
                if control.kind == "break":
                    break
            finally:
                del self.variables[depth:]
        if not items:
            self.run(node.otherwise, dot)

    def pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        value = self.commands(pipeline, dot)
        for name in pipeline.variables:
            if pipeline.declares:
                self.variables.append((name, value))
            else:
                self.assign(name, value)
        return value

    def commands(self, pipeline: Pipeline, dot: Any) -> Any:
        piped: list[Any] = []
        for command in pipeline.commands:
            piped = [self.command(command, dot, piped)]
        return piped[0]

    def assign(self, name: str, value: Any) -> None:
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return
        raise TemplateError(f"template: :1: undefined variable {name!r}")

    def command(self, command: list[Operand], dot: Any, piped: list[Any]) -> Any:
        first, *others = command
        if first.kind == "function" and first.name in ("and", "or"):
            return self.shortcut(first.name, others, dot, piped)
        if first.kind == "function":
            arguments = [self.value(operand, dot) for operand in others]
            value = self.call(command, FUNCTIONS[first.name], arguments + piped)
            return self.follow(first, value, first.fields)
        value = self.value(first, dot, method=True)
        if callable(value):
            return self.call(command, value, [self.value(operand, dot) for operand in others] + piped)
        if others or piped:
            raise self.problem(first, f"can't give argument to non-function {first.spelling()}")
        return value

    def shortcut(self, name: str, operands: list[Operand], dot: Any, piped: list[Any]) -> Any:
        value: Any = None
        for operand in operands:
            value = self.value(operand, dot)
            if truth(value) == (name == "or"):
                return value
        return piped[0] if piped else value

    def call(self, command: list[Operand], function: Any, arguments: list[Any]) -> Any:
        operand = command[0]
        spelling = " ".join(part.spelling() for part in command)
        try:
            return function(*arguments)
        except TemplateError as error:
            raise self.problem(operand, str(error), spelling) from None
        except (TypeError, ValueError, AttributeError) as error:
            raise self.problem(
                operand, f"error calling {operand.spelling().strip('.')}: {error}", spelling
            ) from None

    def value(self, operand: Operand, dot: Any, method: bool = False) -> Any:
        if operand.kind == "constant":
            return operand.value
        if operand.kind == "function":
            value = self.command([Operand("function", operand.position, operand.name)], dot, [])
        elif operand.kind == "group":
            value = self.pipeline(operand.value, dot)
        elif operand.kind == "variable":
            value = self.variable(operand)
        else:
            value = dot
        value = self.follow(operand, value, operand.fields)
        return self.call([operand], value, []) if callable(value) and not method else value

    def variable(self, operand: Operand) -> Any:
        for name, value in reversed(self.variables):
            if name == operand.name:
                return value
        raise TemplateError(f'template: :1: undefined variable "{operand.name}"')

    def follow(self, operand: Operand, value: Any, fields: list[str]) -> Any:
        parent = ""
        for name in fields:
            value = self.field(operand, value, name, parent)
            parent = name
        return value

    def field(self, operand: Operand, value: Any, name: str, parent: str) -> Any:
        lookup = getattr(value, "field", None)
        if lookup is not None:
            try:
                return lookup(name)
            except KeyError:
                raise self.problem(operand, f"can't evaluate field {name} in this row") from None
        if isinstance(value, dict):
            if name in value:
                return value[name]
            if parent in _MAPS or name in _OPTIONAL:
                return None
            raise self.problem(operand, f'map has no entry for key "{name}"')
        if value is None:
            missing = parent if parent in _OPTIONAL else ""
            reason = (
                f'map has no entry for key "{missing}"' if missing else f'nil data; no entry for key "{name}"'
            )
            raise self.problem(operand, reason)
        raise self.problem(operand, f"can't evaluate field {name} in type {type(value).__name__}")

    def problem(self, operand: Operand, reason: str, spelling: str = "") -> TemplateError:
        before = self.text[: operand.position]
        line, column = before.count("\n") + 1, operand.position - (before.rfind("\n") + 1)
        spelling = spelling or operand.spelling()
        if len(spelling) > 20:
            spelling = spelling[:20] + "..."
        return TemplateError(f'template: :{line}:{column}: executing "" at <{spelling}>: {reason}')
