"""What a watched compile may have read, by the accesses that were noted."""

from __future__ import annotations

from pathlib import Path

import pytest

from remote_apis.digest import Digest
from tests.wrapper.reason_texts import provokes
from wrapper.inputs.code_reads import Reads
from wrapper.inputs.inputs import Inputs
from wrapper.linked import LIBRARY
from wrapper.macro_watch import check_reads
from wrapper.preferred import PREFERRED
from wrapper.recorded import NotKept
from wrapper.result_checks import Unit
from wrapper.roots import find_roots
from wrapper.rustc.arguments import parse


class Place:
    """A package `p` in a workspace, with a dependency and a toolchain."""

    def __init__(self, directory: Path) -> None:
        self.base = directory
        self.package = directory / "w" / "p"
        self.out = directory / "w" / "target" / "debug" / "deps"
        for each in (self.package / "src", self.package / "text" / "node_modules", self.out):
            each.mkdir(parents=True)
        (directory / "w" / "beside").touch()
        (self.package / "text" / "one").touch()
        (directory / "tc" / "bin").mkdir(parents=True)
        self.inputs = Inputs(function=PREFERRED, macros=Reads(suspect="m says fs::"))
        for path in (self.package, self.out, directory / "tc"):
            self.inputs.shown[str(path)] = None
        self.inputs.left_out.append(str(self.package / "text" / "node_modules"))

    def why(self, *accesses: str, kind: str = "lib", out: str = "") -> str | None:
        """Why a compile that did this is not kept; `{w}`, `{p}`, `{t}`, `{out}` are directories.

        A `!` alone: nothing told of variables.
        `out`: where the compile writes, if not to `{out}`, where dependencies are.
        """
        own = self.base / out if out else self.out
        names = {
            "w": self.base / "w", "p": self.package, "t": self.base / "tc", "out": self.out,
        }  # fmt: skip
        told = () if "!" in accesses or not accesses else ("v", "vNAME")
        accesses = (*told, *(each for each in accesses if each != "!"))
        noted = b"".join(each.format(**names).encode() + b"\0" for each in accesses)
        argv = ["rustc", "--crate-name", "p", "--crate-type", kind, "--emit=dep-info,link"]
        argv += ["--out-dir", str(own), "-L", f"dependency={self.out}"]
        invocation = parse([*argv, "p/src/lib.rs"])
        environment = {
            "CARGO_MANIFEST_DIR": str(self.package), "PATH": "/usr/bin",
            "LD_LIBRARY_PATH": f":{self.base}/w/target/debug:/tc/lib",
        }  # fmt: skip
        roots = find_roots(
            cwd=str(self.base / "w"), source="p/src/lib.rs", out_dir=str(own), triple=None,
            environment=environment, sources=None,
        )  # fmt: skip
        unit = Unit(invocation=invocation, roots=roots, environment=environment)
        try:
            check_reads(noted, unit, self.inputs)
        except NotKept as why:
            return str(why)
        return None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    "access",
    [
        "o{p}/src/lib.rs",
        "s{p}/src/not/there",
        "o{p}/src",
        "o{p}/text",
        "s{p}",
        "s{w}",
        "s/",
        "s{w}/target",
        "o{t}/lib/librustc_driver.so",
        "o{out}",
        "c{out}/libp.rlib",
        "c/tmp/rustcXYZ",
        "o/lib/x86_64-linux-gnu/libc.so.6",
        "o/etc/ld.so.cache",
        "o/sys/fs/cgroup/cpu.max",
        "o/sys/devices/system/node/node1",
        "o//lib/x86_64-linux-gnu/libc.so.6",
        "s//",
    ],
)
def test_what_a_compile_does(place: Place, access: str) -> None:
    assert place.why("x{t}/bin/rustc", access) is None


def test_what_a_link_that_is_left_out_leads_to(place: Place) -> None:
    """As where a build script links the package's sources into OUT_DIR."""
    link = place.base / "linked"
    link.symlink_to(place.package / "src")
    place.inputs.left_out.append(str(link))
    assert place.why("x{t}/bin/rustc", "o{p}/src/lib.rs") is None
    assert place.why("x{t}/bin/rustc", f"o{link}/lib.rs") is not None


@pytest.mark.parametrize(
    "access",
    [
        "o{w}/beside",
        "s{w}/not-there",
        "o{w}",
        "o{p}",
        "o{p}/text/node_modules/x",
        "s{p}/text/node_modules",
        "s{p}/.git",
        "s{p}/new.profraw",
        "o{p}/../beside",
        "o/etc/hostname",
        "o/usr/share/zoneinfo/UTC",
        "o/usr/include/stdio.h",
        "o/usr/lib/x86_64-linux-gnu/libpq.so.5",
        "o/usr/lib",
        "s/home/x",
    ],
)
def test_what_no_key_has(place: Place, access: str) -> None:
    said = place.why("x{t}/bin/rustc", access)
    assert said is not None
    provokes("the compile reads …, which no key names", said)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/lib/x86_64-linux-gnu/libc_nonshared.a", None),
        ("/usr/lib/gcc/x86_64-linux-gnu/12/libgcc_s.so", None),
        ("/usr/lib/gcc/x86_64-linux-gnu/12/libssp.a", None),
        ("/usr/lib/bfd-plugins/liblto_plugin.so", None),
        ("/usr/lib/x86_64-linux-gnu/libbfd-2.40-system.so", None),
        ("/lib/x86_64-linux-gnu/libz.so.1", None),
        ("/usr/lib/gcc/x86_64-linux-gnu/12/../../../x86_64-linux-gnu/libfoo.so", "foo"),
        ("/usr/lib/x86_64-linux-gnu/libfoo.a", "foo"),
        ("/usr/lib64/libfoo-1.0.so", "foo-1.0"),
        ("/usr/local/lib/libfoo.a", "foo"),
    ],
)
def test_libraries_that_the_linker_takes(path: str, name: str | None) -> None:
    match = LIBRARY.fullmatch(path)
    assert (match.group(1) if match else None) == name


@pytest.mark.parametrize("kind", "ocm")
def test_what_macros_leave_for_each_other(place: Place, kind: str) -> None:
    """Beside artifacts, where rustc has its own."""
    access = kind + "{out}/of-x"
    assert place.why("x{t}/bin/rustc", access) is None, "it is looked for in vain"
    (place.out / "of-x").touch()
    said = place.why("x{t}/bin/rustc", access)
    assert said is not None
    provokes("the compile reads …, which no key names", said)


@pytest.mark.parametrize("access", ["o/dev/urandom", "o/proc/sys/kernel/random/uuid"])
def test_random_numbers_from_files(place: Place, access: str) -> None:
    assert place.why("x{t}/bin/rustc", access) == "a macro asks for random numbers"
    place.inputs.macros = Reads()
    assert place.why("x{t}/bin/rustc", access) is None, "then it is the compiler"


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ("m{w}/beside", "it writes /"),
        ("!it opens a network socket", "it opens a network socket"),
        ("o/proc/swaps", "it reads /proc/swaps"),
    ],
)
def test_what_nothing_watched_may_do(place: Place, access: str, words: str) -> None:
    said = place.why("x{t}/bin/rustc", access)
    assert said is not None
    assert said.startswith(words)


def test_the_linker(place: Place) -> None:
    link = ("x{t}/bin/rustc", "X/usr/bin/cc", "O/usr/lib/gcc/crt1.o", "O{out}/x.o", "S{w}/libc.so")
    assert place.why(*link, kind="bin") is None
    beside = ("O//usr/lib", "O/etc/debian_version", "O/opt", "X/usr/bin/mold", "X/usr/bin/clang")
    for more in beside:
        assert place.why(*link, more, kind="bin") is None, more
    said = place.why(*link)
    assert said is not None, "what does not link runs none"
    provokes("the compile runs …, and nobody knows what that reads", said)
    said = place.why(*link, "X/usr/bin/env", kind="bin")
    assert said is not None
    provokes("the compile runs …, and nobody knows what that reads", said)
    said = place.why(*link, "O{w}/beside", kind="bin")
    assert said is not None
    provokes("what it runs reads …, which no key names", said)
    said = place.why(*link, "o/usr/lib/gcc/crt1.o", kind="bin")
    assert said is not None, "rustc itself reads no such thing"


def test_what_is_linked_and_in_no_key(place: Place) -> None:
    """Start files and the C library's are in the link set, others of the same directories not."""
    directory = next(Path("/usr/lib/gcc").glob("*/*/crtbegin.o")).parent
    link = ("x{t}/bin/rustc", "X/usr/bin/cc", f"O{directory}/crtbegin.o", f"O{directory}/libgcc.a")
    assert place.why(*link, kind="bin") is None
    for name in ("crtfastmath.o", "libgcov.a"):
        said = place.why(*link, f"O{directory}/{name}", kind="bin")
        assert said == f"the linker reads {directory}/{name}, which no key names"
        provokes("the linker reads …, which no key names", said)
    said = place.why(*link, f"O{directory}/not-there.o", kind="bin")
    assert said is None


def test_sources_of_published_dependencies(place: Place, tmp_path: Path) -> None:
    """rustc quotes them in its messages; a name and a version have the same for everybody."""
    source = f"o{tmp_path}/registry/src/i/dep-1.0.0/src/lib.rs"
    said = place.why("x{t}/bin/rustc", source)
    assert said is not None
    provokes("the compile reads …, which no key names", said)
    place.inputs.published = (f"{tmp_path}/registry/src/i/dep-1.0.0",)
    assert place.why("x{t}/bin/rustc", source) is None
    assert place.why("x{t}/bin/rustc", source.replace("1.0.0", "2.0.0")) is not None


def test_where_dependencies_are(place: Place) -> None:
    """cargo has every program look there for libraries, also where there is no dependency."""
    place.inputs.shown.pop(str(place.out))
    looks = ("o{out}", "o{out}/libc.so.6", "S{out}", "O{out}/libc.so.6")
    assert place.why("x{t}/bin/rustc", *looks, out="w/target/debug/build/p-1") is None


def test_what_a_test_has_programs_looked_for(place: Place) -> None:
    """By LD_LIBRARY_PATH, which cargo sets for tests, and these hand on to cargo."""
    debug = "{w}/target/debug"
    llvm = f"o{debug}/libLLVM.so.22.1-rust-1.95.0-stable"
    looks = (f"s{debug}", f"o{debug}/libz.so.1", f"o{debug}/glibc-hwcaps/x86-64-v2/libc.so.6", llvm)
    assert place.why("x{t}/bin/rustc", *looks) is None
    # what rustc starts looks there, too
    link = ("x{t}/bin/rustc", "X/usr/bin/cc", "O/usr/lib/gcc/crt1.o")
    assert place.why(*link, *(each[0].upper() + each[1:] for each in looks), kind="bin") is None
    for odd in (f"o{debug}", f"o{debug}/text", f"s{debug}/text", f"o{debug}/more/libz.so"):
        assert place.why(odd) is not None
    (place.base / "w/target/debug/libz.so.1").touch()
    for kind in "os":
        assert place.why(f"{kind}{debug}/libz.so.1") is not None
    assert place.why(*link, f"O{debug}/libz.so.1", kind="bin") is not None


def test_libraries_for_wasm(place: Place) -> None:
    """Their names begin with nothing, and rustc looks at those of all dependencies."""
    (place.out / "other.wasm").touch()
    access = "o{out}/other.wasm"
    assert "other.wasm, which no key names" in str(place.why(access))
    place.inputs.files["target/debug/deps/other.wasm"] = Digest.of(b"", PREFERRED)
    assert place.why(access) is None


def test_nothing_was_noted(place: Place) -> None:
    said = place.why()
    assert said is not None
    provokes("its watcher saw nothing", said)


def test_variables_of_which_nobody_tells(place: Place) -> None:
    """Where a macro may ask for some, by what it says."""
    said = place.why("o{p}/src/lib.rs", "!")
    assert said is not None
    provokes("its watcher is not told of variables", said)
    place.inputs.macros = Reads()
    assert place.why("o{p}/src/lib.rs", "!") is None


def test_by_where_links_lead(place: Place, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(place.package)
    place.inputs.shown[str(tmp_path / "link")] = None
    del place.inputs.shown[str(place.package)]
    assert place.why("o{p}/src/lib.rs") is None
