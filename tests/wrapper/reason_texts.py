"""The reasons for compiling here as they stand in the wrapper's source, and as they are said."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_RAISED = {"NotUnderstood", "CompileHere", "OutsideRoots", "NotSendable", "FailedThere", "Miss"}


def template(node: ast.expr) -> str | None:
    """A text with `…` for what is put into it; None for what is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
        return "".join(parts)
    return None


def reasons_in(tree: ast.Module) -> Iterator[str | None]:
    """What is raised or returned as a reason, and what is assigned to be one later."""
    constants = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from _assigned(node)
            if isinstance(node.targets[0], ast.Name):
                constants[node.targets[0].id] = template(node.value)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id in _RAISED and node.args:
            yield template(node.args[0])
            parts = ast.walk(node.args[0])
            yield from (constants.get(p.id) for p in parts if isinstance(p, ast.Name))


def _assigned(node: ast.Assign) -> Iterator[str | None]:
    target = node.targets[0]
    if "_unusable" in ast.dump(target):
        yield template(node.value)
    elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        for left, right in zip(target.elts, node.value.elts, strict=True):
            if isinstance(left, ast.Name) and left.id == "reason":
                yield template(right)


def reasons_of_the_code() -> set[str]:
    """All of them, as templates."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "wrapper").rglob("*.py"))
    return {reason for tree in trees for reason in reasons_in(tree) if reason}


_NOT_KEPT = {"NotKept", "NotNameable", "NotStorable", "NotWorthKeeping", "Unwatched"}
_NOTED = re.compile(r"""note\('!', "(.+?)"\)|#define OTHER_RIGHTS "(.+)\"""")
_PRINTED = re.compile(r'snprintf\((?:path|words), sizeof \w+, "(.*?)"(?=.*\n.*note\(.!)')


def reasons_of_runs() -> set[str]:
    """Why runs of build scripts are not kept."""
    scripts = [*(ROOT / "wrapper" / "build_scripts").glob("*.py")]
    scripts += [ROOT / "wrapper" / name for name in ("daemon/script_calls.py", "recorded.py")]
    found = _not_kept_in(scripts)
    for name in ("watch.h", "watch.c", "launcher.c"):
        text = (ROOT / "wrapper" / "shim" / name).read_text()
        found |= {each for match in _NOTED.findall(text) for each in match}
        found |= {re.sub("%[sd]", "…", each) for each in _PRINTED.findall(text)}
    return found - {""}


def reasons_of_keeping() -> set[str]:
    """Why units that were compiled here are not kept, as far as that turns out by then."""
    return _not_kept_in(
        ROOT / "wrapper" / name
        for name in (
            "here.py",
            "linked.py",
            "macro_watch.py",
            "keeping.py",
            "compiled.py",
            "recorded.py",
        )
    )


def _not_kept_in(paths: Iterable[Path]) -> set[str]:
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    return {reason for node in nodes for reason in _why_not_kept(node) if reason}


def _why_not_kept(node: ast.AST) -> Iterator[str | None]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in _NOT_KEPT:
            yield template(node.args[0])
    elif isinstance(node, ast.Assign):
        target = ast.dump(node.targets[0])
        if "trouble" in target:
            parts = node.value.values if isinstance(node.value, ast.BoolOp) else [node.value]
            yield template(parts[-1])
        if "'why'" in target:
            yield template(node.value.body if isinstance(node.value, ast.IfExp) else node.value)


def fits(reason: str, said: str) -> bool:
    """Whether a text is the reason with something in the place of each `…`."""
    pattern = ".+".join(re.escape(part) for part in reason.split("…"))
    return re.fullmatch(pattern, said, re.DOTALL) is not None


def provokes(reason: str, said: str) -> None:
    assert fits(reason, said), f"{said!r} is not {reason!r}"
