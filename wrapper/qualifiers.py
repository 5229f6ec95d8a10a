"""What a compile reads of this machine beside its inputs, where that can be named.

Such a compile has a key of its own kind: no worker gets it, but whoever has the same linker,
system libraries or processor finds its result.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from remote_apis import link_set
from remote_apis.bubblewrap import SHOWN
from wrapper.build_scripts.machine import processor
from wrapper.build_scripts.names import is_below
from wrapper.ccache import behind_ccache
from wrapper.hidden_paths import are_handed, is_opaque
from wrapper.inputs.inputs import Inputs
from wrapper.inputs.macro_trust import NAMED_BY_MACRO
from wrapper.roots import Roots
from wrapper.rustc.arguments import Invocation, NotUnderstood
from wrapper.rustc.by_name import found_from
from wrapper.sandbox import PATH
from wrapper.system_libraries import ask_program, file_digest, system_library

_LOOKED_FIRST = ("COMPILER_PATH", "GCC_EXEC_PREFIX", "LIBRARY_PATH")
OF_LINKERS = (
    *_LOOKED_FIRST,
    "LD_RUN_PATH",
    "LDFLAGS",
    "LDEMULATION",
    "GNUTARGET",
    "CCC_OVERRIDE_OPTIONS",
    "LLD_VERSION",
    "LLD_REPRODUCE",
)
"""Variables by which C compilers and linkers are told more."""
_STARTED_BY_LINKERS = ("cc", "ld", "ld.bfd", "ld.gold", "ld.lld", "ld.mold", "ld.wild")
"""What rustc or a C compiler looks for along PATH."""

OF_LINK_SET = frozenset({"c", "m", "gcc", "gcc_eh", "gcc_s", "rt", "pthread", "util", "dl"})

_FLAGS = (
    "(no-)?(as-needed|gc-sections|whole-archive|eh-frame-hdr|relax|demangle|fatal-warnings"
    "|undefined|rosegment|threads|warn-mismatch|check-features|entry)"
    "|export-dynamic|strip-[a-z]+|Bstatic|Bdynamic|Bsymbolic(-functions)?|nmagic|emit-relocs"
    "|allow-multiple-definition|warn-unresolved-symbols|(en|dis)able-new-dtags|gdb-index"
    "|(start|end)-group|(push|pop)-state|build-id"
    "|(import|export)-(memory|table)|shared-memory|growable-table|stack-first|export-all"
    "|(allow|import)-undefined|lto-O[0-3]"
)
_VALUED = (
    "build-id|icf|rpath|compress-debug-sections|threads|hash-style|soname|defsym|undefined|wrap"
    "|exclude-libs|unresolved-symbols|export-dynamic-symbol|dynamic-linker|image-base"
    "|section-start|Ttext(-segment)?|sort-section|pack-dyn-relocs|init|fini|entry|error-limit"
    "|(initial|max)-memory|(global|table)-base|export(-if-defined)?|features"
)
_LINKER_OPTION = rf"(--?({_FLAGS})|--?({_VALUED})[=,][^,]*|-[eu],[^,]+|-z,?[\w=-]+|-O\d|-[sSxEq])"
_ARGUMENT = re.compile(
    rf"-fuse-ld=[\w-]+|-Wl(,{_LINKER_OPTION})+|{_LINKER_OPTION}|-g\d?|-pthread|-rdynamic|-static"
    r"|-static-(pie|libgcc|libstdc\+\+)|-no-pie|-pie|-nostartfiles|-nodefaultlibs|-nostdlib|-m(32|64)"
    r"|-m(arch|cpu|tune)=(?!native)[\w.+-]+|-f(function|data)-sections|-O[0-3s]|-l[\w+.-]+|-T[\w.-]+"
)
"""Arguments of the linker that read nothing that the sandbox shows and no key names."""

_SCRIPTS = (".x", ".ld", ".lds", ".x.in", ".ld.in")
"""Ends of linker scripts' names."""

_WRITES = re.compile(r"(^|,)(-o|--?(Map|out-implib|dependency-file|reproduce|output)\b)")
"""Arguments by which the linker leaves a file that no hit would put back."""

_READS = re.compile(r"llvm-args|default-codegen-backend")
_LINK_READS = re.compile(rf"{_READS.pattern}|link-(args|objects|env|script)")
"""Keys of a target's specification by which the compiler, and the linker, may read more."""

_ASKS_FOR_LINKER = re.compile(r"-fuse-ld=([\w-]+)")


def qualifiers(
    invocation: Invocation, roots: Roots, inputs: Inputs, environment: Mapping[str, str]
) -> dict[str, str]:
    """Names and values for the key; empty when a worker may compile it.

    Raises NotUnderstood for what cannot be named.
    """
    if invocation.target_file is not None:
        _check_specification(invocation.target_file, invocation)
    found = _of_compile(invocation, roots, inputs)
    if is_opaque(invocation) and are_handed(inputs.macros.variables, roots, environment):
        found["paths"] = "hidden"  # a worker's would be too
    if not invocation.links:
        return found
    linker = invocation.codegen("linker")
    arguments = link_arguments(invocation, roots)
    names = libraries_told(inputs, arguments)
    if not invocation.links_with_system:
        for name in names:
            raise NotUnderstood(f"links the library {name} with rustc's own linker")
        return found
    set_here = {name: environment[name] for name in OF_LINKERS if environment.get(name)}
    found.update({f"variable {name}": value for name, value in set_here.items()})
    flavor = invocation.codegen("linker-flavor")
    if linker or flavor or arguments or names or not inputs.is_for_host:
        found["linker"] = _link_set(linker or "cc")
    if flavor and "lld" in flavor:
        found["lld"] = _program("ld.lld", linker or "cc")
    found |= _asked_for(arguments, linker or "cc", invocation)
    first = looked_in_first(environment, inputs)
    find = functools.partial(system_library, linker=linker or "cc", first=first)
    return found | _libraries(inputs, names, find)


def _libraries(inputs: Inputs, names: Iterable[str], find: Callable[[str], str]) -> dict[str, str]:
    """The system's libraries among those that are linked. Raises NotUnderstood for one of `names`
    that is not found."""
    found = {}
    if NAMED_BY_MACRO in inputs.attributed:
        raise NotUnderstood("links a library whose name a macro puts in")
    for name in sorted(inputs.attributed - OF_LINK_SET):
        with suppress(NotUnderstood):  # one of another system, or of a directory among the inputs
            found[f"lib {name}"] = find(name)
    for name in names:
        try:
            found[f"lib {name}"] = find(name)
        except NotUnderstood:
            if not _is_among(inputs.native, name):
                raise
    return found


def _is_among(directories: Iterable[str], name: str) -> bool:
    """Whether the linker finds a library in directories that the key has in full."""
    files = (f"lib{name}.so", f"lib{name}.a", name)
    return any(os.path.isfile(f"{each}/{file}") for each in directories for file in files)


def libraries_told(inputs: Inputs, arguments: Iterable[str]) -> list[str]:
    """The names of those that options tell the linker of."""
    options = [*inputs.system, *(each[2:] for each in arguments if each.startswith("-l"))]
    return list(dict.fromkeys(map(name_of_library, options)))


def looked_in_first(environment: Mapping[str, str], inputs: Inputs) -> list[str]:
    """The directories of the system in which options, or the user, have the linker look for them
    first."""
    of_user = environment.get("LIBRARY_PATH", "").split(":")
    return [*inputs.searched, *(each for each in of_user if each)]


def name_of_library(option: str) -> str:
    """`z` of `-l dylib:+verbatim=z:other`, without the option's name."""
    return option.rpartition("=")[2].partition(":")[0]


def check_linker(linker: str | None, environment: Mapping[str, str], cwd: str) -> None:
    """Raises NotUnderstood when plain rustc, which is started in `cwd`, would link with other
    programs, or libraries, than the sandbox and workers do: what they find, they find on
    `sandbox.PATH` and in the system."""
    for name in dict.fromkeys((linker or "cc", *_STARTED_BY_LINKERS)):
        found = behind_ccache(name, environment) or found_from(cwd, name, environment)
        there = shutil.which(name, path=PATH)
        if found != there and (not found or not there or not os.path.samefile(found, there)):
            raise NotUnderstood(f"{name} on this user's PATH is {found}")
    for name in _LOOKED_FIRST:
        for directory in filter(None, environment.get(name, "").split(":")):
            if not is_below(os.path.realpath(directory), SHOWN):
                raise NotUnderstood(f"{name} has the linker look in {directory}")


def _of_compile(invocation: Invocation, roots: Roots, inputs: Inputs) -> dict[str, str]:
    found: dict[str, str] = {}
    if invocation.codegen("target-cpu") == "native":
        found["cpu"] = processor()
    if inputs.macros.suspect is not None:
        # a watched macro may list directories; those that are no input are there to be seen
        hidden = (p for p in inputs.left_out if os.path.dirname(p) != roots.package)
        found["left out"] = "\n".join(sorted(f"{roots.stage_text(p)} {_kind(p)}" for p in hidden))
        found |= {f"names in {each}": _names_in(each) for each in inputs.searched}
        found |= {f"what is at {name}": kind for name, kind in inputs.kinds.items()}
        if inputs.links:
            found["links"] = "\n".join(sorted(_named(link, roots) for link in inputs.links))
    if invocation.codegen("split-debuginfo") == "unpacked":
        found["debug objects"] = "beside"  # a worker would have to be told their names
    return found


def _named(text: str, roots: Roots) -> str:
    """A text with everybody's names for paths, of other packages too."""
    text = roots.stage_text(text)
    for place in reversed(roots.places):
        text = text.replace(f"{place.real}/", f"{place.staged or place.recorded}/")
    return text


def _kind(path: str) -> str:
    """What a listing says of it beside its name."""
    try:
        return f"{stat.S_IFMT(os.lstat(path).st_mode):o}"
    except OSError:
        return "gone"


def _names_in(directory: str) -> str:
    """A digest of what a listing says. Raises NotUnderstood."""
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise NotUnderstood(f"cannot read {directory}: {error.strerror}") from error
    listing = "\0".join(f"{name} {_kind(f'{directory}/{name}')}" for name in names)
    return hashlib.sha256(os.fsencode(listing)).hexdigest()


def _check_specification(path: str, invocation: Invocation) -> None:
    """Raises NotUnderstood unless a target's specification has the compiler read nothing by itself,
    and rustc's own linker link.
    """
    try:
        with open(path, "rb") as file:
            specification = dict(json.load(file))
    except (OSError, ValueError, TypeError) as error:
        raise NotUnderstood(f"the target specification {path} cannot be read: {error}") from error
    reads = _LINK_READS if invocation.links else _READS
    for key, value in specification.items():
        if value == "native" or (value and reads.search(key)):
            raise NotUnderstood(f"{path} has {key}, which may have the compiler read anything")
    named = invocation.codegen("linker-flavor") or invocation.codegen("linker")
    linker = named or specification.get("linker") or "cc"
    if invocation.links and linker != "rust-lld":
        raise NotUnderstood(f"links as {path} says, with {linker}")


def link_arguments(invocation: Invocation, roots: Roots) -> list[str]:
    """All of `-C link-arg` and `link-args`. Raises NotUnderstood for one that reads elsewhere, or
    writes a file."""
    arguments: list[str] = []
    for option, value in invocation.options:
        name, _, rest = (value or "").partition("=")
        if option == "--codegen" and name == "link-arg":
            arguments.append(rest)
        elif option == "--codegen" and name == "link-args":
            arguments += rest.split()
    for argument in _joined(arguments):
        if _WRITES.search(argument):
            raise NotUnderstood(f"links with {argument}, which writes a file of its own")
        if argument.startswith("-T"):
            _check_scripts(argument, roots)
        is_input = roots.stage_text(argument) != argument
        if not is_input and not _ARGUMENT.fullmatch(argument):
            raise NotUnderstood(f"links with {argument}, which may read what no key names")
    return arguments


def _joined(arguments: Iterable[str]) -> Iterator[str]:
    """Arguments as they are, but for `-z` and what follows it, as one."""
    queue = iter(arguments)
    for argument in queue:
        yield argument + next(queue, "") if argument == "-z" else argument


def _check_scripts(argument: str, roots: Roots) -> None:
    """Raises NotUnderstood where the linker may take a script, or what that includes, from the
    directory that it is started in, before it looks in those that the key has."""
    if roots.workspace == roots.package:
        return
    beside = [name for name in sorted(os.listdir(roots.workspace)) if name.endswith(_SCRIPTS)]
    name = argument[2:]
    is_beside = not os.path.isabs(name) and os.path.exists(os.path.join(roots.workspace, name))
    if beside or is_beside:
        found = beside[0] if beside else name
        raise NotUnderstood(f"links with {argument}, and {found} lies in the workspace's root")


def _link_set(linker: str) -> str:
    """Raises NotUnderstood when the linker is not one of the system's own."""
    path = shutil.which(linker, path=PATH)
    found = link_set.link_set(path) if path and _is_of_system(path) else None
    if found is None:
        raise NotUnderstood(f"links with {linker}, which is not one of this machine's own programs")
    return found


def _asked_for(arguments: Iterable[str], linker: str, invocation: Invocation) -> dict[str, str]:
    """The linkers that arguments name for the C compiler. Raises NotUnderstood."""
    found = {}
    for argument in arguments:
        match = _ASKS_FOR_LINKER.fullmatch(argument)
        program = f"ld.{match.group(1)}" if match else ""
        if program and not _is_in_toolchain(program, invocation):
            found[argument] = _program(program, linker)
    return found


def _is_in_toolchain(name: str, invocation: Invocation) -> bool:
    """Whether the key has it with the toolchain, where rustc tells the C compiler to look: no other
    is on this machine."""
    if shutil.which(name, path=PATH) is not None:
        return False
    sysroot = Path(invocation.driver).parent.parent
    return any(sysroot.glob(f"lib/rustlib/*/bin/gcc-ld/{name}"))


def _program(name: str, linker: str) -> str:
    """The digest of a program that the linker starts. Raises NotUnderstood."""
    path = shutil.which(name, path=PATH) or shutil.which(
        ask_program(linker, f"-print-prog-name={name}"), path=PATH
    )
    if path is None or not _is_of_system(path):
        raise NotUnderstood(f"links with {name}, which is not one of this machine's own programs")
    return file_digest(os.path.realpath(path))


def _is_of_system(path: str) -> bool:
    return os.path.realpath(path).startswith("/usr/")
