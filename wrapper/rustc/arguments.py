"""Parse a rustc command line, as cargo writes it, into an Invocation; or say why not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from wrapper.rustc.options import (
    CODEGEN,
    EMITS,
    FLAGS,
    KNOWN_TYPES,
    LINKED_TYPES,
    NOT_BY_NAME,
    OF_FUZZING,
    OWN_LINKER,
    SHORT_VALUED,
    UNSTABLE,
    VALUED,
)

Option = tuple[str, str | None]
_SPECIFICATION = ".json"
_BACKEND = re.compile(r"codegen[-_]backend=(?!llvm$)")


class NotUnderstood(Exception):
    """The unit must be compiled by plain rustc; the message is the reason shown to the user."""


class Probe(Exception):
    """A question to rustc (its version, its cfg), not a compile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extern:
    """`--extern [options:]name[=path]`; `path` is None for a crate of the sysroot."""

    spec: str
    path: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One compile that the wrapper understands.

    `options` holds every option in order under its long name, without those of the session
    (`--diagnostic-width`, `-C incremental`); `driver` is the program (rustc or clippy-driver).
    `target` is a triple, or the name of the specification in `target_file`.
    """

    driver: str
    options: tuple[Option, ...]
    source: str
    crate_name: str
    crate_types: tuple[str, ...]
    emit: frozenset[str]
    out_dir: str
    extra_filename: str
    externs: tuple[Extern, ...]
    library_paths: tuple[tuple[str, str], ...]
    native_libraries: tuple[str, ...]
    is_test: bool
    target: str | None
    target_file: str | None
    incremental: str | None

    @property
    def features(self) -> tuple[str, ...]:
        """The package's features that are on."""
        values = (v for n, v in self.options if n == "--cfg" and v and v.startswith("feature="))
        return tuple(sorted(v.partition("=")[2].strip('"') for v in values))

    @property
    def is_clippy(self) -> bool:
        """Whether clippy looks at it, which reads settings and asks cargo."""
        return os.path.basename(self.driver) == "clippy-driver"

    @property
    def has_backend(self) -> bool:
        """Whether it names another back end, a library of the toolchain's."""
        return any(n == "-Z" and v and _BACKEND.match(v) for n, v in self.options)

    @property
    def links(self) -> bool:
        """Whether rustc starts the linker."""
        return "link" in self.emit and (
            self.is_test or not self.crate_types or bool(LINKED_TYPES & set(self.crate_types))
        )

    @property
    def links_with_system(self) -> bool:
        """Whether the linker and what it reads are this machine's, and not the toolchain's."""
        if not self.links or self.target_file or self.codegen("linker") == "rust-lld":
            return False  # a specification names its linker: see wrapper.qualifiers
        if self.codegen("linker") or self.codegen("linker-flavor"):
            return True
        return self.target is None or not OWN_LINKER.fullmatch(self.target)

    @property
    def keeps_paths(self) -> bool:
        """Whether the result must hold this checkout's own paths: coverage reports go by them, and
        debuggers, and programs for their backtraces, to debug information that lies beside."""
        has_debug_objects = self.codegen("split-debuginfo") == "unpacked" and (
            self.codegen("debuginfo") not in (None, "0", "none") or ("-g", None) in self.options
        )
        covers = self.codegen("instrument-coverage") not in (None, "no", "n", "off", "false", "0")
        return covers or has_debug_objects

    @property
    def needs_rlibs(self) -> bool:
        """Whether the compile reads its dependencies' code, not their metadata alone."""
        return self.links or ("link" in self.emit and "staticlib" in self.crate_types)

    def codegen(self, name: str) -> str | None:
        """The last value of `-C name`, "" when it was given without one, None when absent."""
        found: str | None = None
        for option, value in self.options:
            if option == "--codegen" and value is not None:
                key, _, rest = value.partition("=")
                if key == name:
                    found = rest
        return found


def _options(arguments: Sequence[str]) -> Iterator[Option]:
    """Options under their long names in order; free arguments come as ("", argument)."""
    queue = iter(arguments)
    for argument in queue:
        name, equals, value = argument.partition("=")
        if argument in FLAGS:
            yield argument, None
        elif argument in ("-vV", "-V", "--version", "-h", "--help"):
            raise Probe
        elif argument.startswith("--"):
            if name not in VALUED:
                raise NotUnderstood(f"option {name} is not known to the wrapper")
            yield name, value if equals else _value(queue, name)
        elif argument.startswith("-") and argument != "-":
            short = SHORT_VALUED.get(argument[:2])
            if short is None:
                raise NotUnderstood(f"option {argument} is not known to the wrapper")
            yield short, argument[2:] or _value(queue, argument)
        else:
            yield "", argument


def _value(queue: Iterator[str], name: str) -> str:
    value = next(queue, None)
    if value is None:
        raise NotUnderstood(f"option {name} has no value")
    return value


def _check_codegen(value: str) -> None:
    name = value.partition("=")[0]
    if name == "rpath":
        raise NotUnderstood("-C rpath puts into programs where this machine has the toolchain")
    if name not in CODEGEN and not OF_FUZZING.fullmatch(value):
        raise NotUnderstood(f"-C {name} may read files that the wrapper cannot see")


def _is_known(unstable: str) -> bool:
    return unstable.partition("=")[0] in UNSTABLE and not NOT_BY_NAME.fullmatch(unstable)


def _check(option: Option) -> None:
    name, value = option
    if name == "--codegen" and value is not None:
        _check_codegen(value)
    elif name == "-Z" and value is not None and _is_known(value.replace("_", "-")):
        return
    elif name in ("--print", "--sysroot", "--remap-path-prefix", "-o", "-Z"):
        named = f"-Z {value}" if name == "-Z" else name
        raise Probe if name == "--print" else NotUnderstood(f"option {named} is used")
    elif name == "" and value is not None and value.startswith("@"):
        raise NotUnderstood("arguments come from a file")


def _is_of_session(option: Option) -> bool:
    """Options that differ between terminals and checkouts and change no output."""
    name, value = option
    return name in ("--diagnostic-width", "--color") or (
        name == "--codegen" and value is not None and value.startswith("incremental=")
    )


def parse(argv: Sequence[str]) -> Invocation:
    """Parse `driver argument…`; the driver may be followed by the rustc that it stands in for.

    Raises Probe for questions and NotUnderstood, with the reason, for what plain rustc must do.
    """
    driver, rest = argv[0], list(argv[1:])
    if rest and rest[0].rpartition("/")[2] == "rustc":
        rest = rest[1:]  # clippy-driver gets rustc's path as its first argument
    if any(argument.startswith("--print") for argument in rest):
        raise Probe
    options = list(_options(rest))
    for option in options:
        _check(option)
    sources = [value for name, value in options if name == "" and value is not None]
    if len(sources) != 1:
        raise NotUnderstood(f"{len(sources)} source files are named, not one")
    if sources[0] == "-":
        raise Probe
    return _invocation(driver, options, sources[0])


def _invocation(driver: str, options: list[Option], source: str) -> Invocation:
    given = _by_name(options)

    def values(name: str) -> list[str]:
        return given.get(name, [])

    def codegen(name: str) -> str | None:
        found = [v.partition("=")[2] for v in values("--codegen") if v.startswith(f"{name}=")]
        return found[-1] if found else None

    emit = frozenset(part for value in values("--emit") for part in value.split(","))
    if not emit or not emit <= EMITS:
        raise NotUnderstood(f"emits {', '.join(sorted(emit - EMITS)) or 'nothing by name'}")
    if not values("--crate-name") or not values("--out-dir"):
        raise NotUnderstood("has no crate name or no output directory")
    types = tuple(part for v in values("--crate-type") for part in v.split(","))
    if not KNOWN_TYPES.issuperset(types):
        raise NotUnderstood(f"has the crate type {min(set(types) - KNOWN_TYPES)}")
    for library in values("-l"):
        if "+verbatim" in library:
            raise NotUnderstood(f"links {library}, which may be a file that no key has")
    target, target_file = _target(values("--target"))
    return Invocation(
        driver=driver,
        options=tuple(o for o in options if not _is_of_session(o)),
        source=source,
        crate_name=values("--crate-name")[-1],
        crate_types=types,
        emit=emit,
        out_dir=values("--out-dir")[-1],
        extra_filename=codegen("extra-filename") or "",
        externs=tuple(_extern(value) for value in values("--extern")),
        library_paths=tuple(_library_path(value) for value in values("-L")),
        native_libraries=tuple(values("-l")),
        is_test=any(name == "--test" for name, _ in options),
        target=target,
        target_file=target_file,
        incremental=codegen("incremental"),
    )


def _by_name(options: Iterable[Option]) -> dict[str, list[str]]:
    """The values of each option, in order."""
    found: dict[str, list[str]] = {}
    for name, value in options:
        if value is not None:
            found.setdefault(name, []).append(value)
    return found


def _target(values: Sequence[str]) -> tuple[str | None, str | None]:
    """What it is called, and the file that specifies it, if one does. Raises NotUnderstood."""
    target = values[-1] if values else None
    if target is None or not target.endswith(_SPECIFICATION):
        return target, None
    if not target.startswith("/"):
        raise NotUnderstood(f"the target specification {target} has no absolute path")
    return target.rpartition("/")[2][: -len(_SPECIFICATION)], target


def _extern(value: str) -> Extern:
    spec, equals, path = value.partition("=")
    return Extern(spec=spec, path=path if equals else None)


def _library_path(value: str) -> tuple[str, str]:
    kind, equals, path = value.partition("=")
    return (kind, path) if equals else ("all", value)
