"""All messages to users as a golden file, to be read and reviewed as one text.

Collected from the source: texts of exceptions, problems and warnings of a sweep, findings of
``xlt doctor``, and what commands print. ``…`` stands for a value. To write the file again after a
decision: ``python -m tests.house.test_messages``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path

import xlt_ray

PACKAGE = Path(xlt_ray.__file__).parent
GOLDEN = Path(__file__).with_name("messages.txt")

PRINTING = re.compile(r"(\w*Errors?|\w*Outage|ForbiddenLabels|DamagedStage|StageConflict|LeaseLost"
                      r"|TrialFailure|Finding|\w*error|warn|warned|echo|_echo|print)$")  # fmt: skip
"""Names of what is called with a message."""
LISTS = re.compile(r"\b(warnings|problems|faults|errors|news)\.(append|add)$")
RETURNING = re.compile(r"Problem|Fault|tuple\[str, str(, str)?\]")
"""Return types of functions whose values are messages: key, problem, remedy."""
KEYWORDS = ("problem", "message", "found", "remedy", "advice")
INTERNAL = {"AssertionError", "AttributeError", "NotImplementedError", "KeyError"}
VALUE = "…"


def text_of(node: ast.expr | None, names: dict[str, ast.expr]) -> str:
    """A message as it reads, with ``…`` for each value and [one / other] for alternatives."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part, names) for part in parts)
        case ast.FormattedValue(value=value) | ast.Starred(value=value):
            return text_of(value, names)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left, names) + text_of(right, names)
        case ast.BinOp(left=ast.Constant() | ast.JoinedStr() as text, op=ast.Mult()):
            return f"[{text_of(text, names)}]"
        case ast.IfExp(body=first, orelse=second):
            texts = [text_of(choice, names) for choice in (first, second)]
            return f"[{' / '.join(filter(None, texts))}]" if texts != [VALUE, VALUE] else VALUE
        case ast.Name(id=name) if name in names:
            return text_of(names[name], names)
        case ast.Call(func=ast.Attribute(attr="fill"), args=[text, *_]):
            return text_of(text, names)
        case ast.Call(func=ast.Name(id="Text"), args=[text, *_]):
            return text_of(text, names)
    return VALUE


def sentence(texts: list[str]) -> str:
    """The parts of a message as one line; empty where they are nothing but values."""
    parts = [text.strip() for text in texts if text.strip()]
    # The first parts may be the file and line.
    joined = "; ".join(dropwhile(lambda part: part == VALUE, parts))
    words = re.sub(rf"[{VALUE}\W\d_]", "", joined)
    return re.sub(r"\s*\n\s*", " | ", joined) if len(words) > 2 else ""


def messages_of(path: Path) -> Iterator[str]:
    """The messages of a module, in the order of its source."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
        and isinstance(statement.value, ast.Constant | ast.JoinedStr | ast.BinOp)
    }
    is_cli = path.parent.name == "cli"

    def visit(node: ast.AST, returns: str) -> Iterator[str]:
        match node:
            case ast.FunctionDef(returns=annotation):
                returns = "" if annotation is None else ast.unparse(annotation)
            case ast.Call(func=called):
                name = ast.unparse(called)
                last = name.rpartition(".")[2]
                if (PRINTING.match(last) and last not in INTERNAL) or LISTS.search(name):
                    given = node.args if last != "Finding" else node.args[2:]
                    given += [word.value for word in node.keywords if word.arg in KEYWORDS]
                    yield sentence([text_of(part, names) for part in given])
            case ast.Yield(value=ast.Tuple(elts=parts)) | ast.Return(value=ast.Tuple(elts=parts)):
                if RETURNING.search(returns):
                    key = len(parts) == 3 and isinstance(parts[0], ast.Constant)
                    yield sentence([text_of(part, names) for part in parts[1 if key else 0 :]])
            case ast.Yield(value=value) | ast.Return(value=value):
                if is_cli and returns in ("str", "Iterator[str]"):
                    yield sentence([text_of(value, names)])
        for child in ast.iter_child_nodes(node):
            yield from visit(child, returns)

    yield from dict.fromkeys(filter(None, visit(tree, "")))


def listing() -> str:
    """Every module that has messages, and below its name each of them on a line."""
    sections = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if lines := list(messages_of(path)):
            sections.append("\n  ".join([str(path.relative_to(PACKAGE)), *lines]))
    return "\n\n".join(sections) + "\n"


def test_messages_are_what_was_decided() -> None:
    now, decided = listing().splitlines(), GOLDEN.read_text(encoding="utf-8").splitlines()
    new = [line for line in now if line not in decided]
    gone = [line for line in decided if line not in now]
    assert now == decided, (
        f"messages changed; if that was decided, run `python -m {__spec__.name}`.\n"
        f"new: {new}\ngone: {gone}"
    )


if __name__ == "__main__":
    GOLDEN.write_text(listing(), encoding="utf-8")
