"""What a build script's run depends on: names, order of accesses, records, keys."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.digest import Digest
from wrapper.build_scripts import reads
from wrapper.build_scripts.accesses import (
    OTHER_RIGHTS,
    Seen,
    Surroundings,
    decode,
    left_behind,
    sort_out,
)
from wrapper.build_scripts.c_flags import c_flags
from wrapper.build_scripts.keys import DependsOn, run_action, script_action
from wrapper.build_scripts.links import links_out
from wrapper.build_scripts.names import Names, with_places
from wrapper.build_scripts.outputs import staged, times, unstaged
from wrapper.build_scripts.reads import (
    NotNameable,
    Record,
    Values,
    changed_since,
    dump_records,
    load_records,
    named,
)
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.file_digests import FileDigests
from wrapper.preferred import PREFERRED
from wrapper.roots import Roots, find_roots

WATCH = Path(__file__).parents[2] / "wrapper" / "shim" / "watch.h"


def roots_of(user: str = "/home/alice", workspace: str = "/home/alice/code/ws") -> Roots:
    environment = {
        "CARGO_MANIFEST_DIR": f"{workspace}/app", "HOME": user, "CARGO_HOME": f"{user}/.cargo",
        "RUSTC": f"{user}/.rustup/toolchains/stable/bin/rustc",
    }  # fmt: skip
    roots = find_roots(
        cwd=workspace, source="build.rs", out_dir=f"{workspace}/target/debug/build/app-1",
        triple=None, environment=environment, sources=None,
    )  # fmt: skip
    return with_places(roots, environment)


ALICE, BOB = roots_of(), roots_of("/data/bob", "/srv/checkouts/of bob")
PARTS = st.lists(st.sampled_from(["a", "b.c", "target", "ws", "code", ".git", "x y"]), max_size=4)
SOMEWHERE = st.sampled_from(
    ["/home/alice/code/ws", "/home/alice/code", "/home/alice", "/home", "/usr/lib", "/data", "/",
     "/home/alice/.cargo/registry/src/x", "/home/alice/code/ws/target/debug"],
)  # fmt: skip


@given(SOMEWHERE, PARTS)
def test_a_name_stands_for_its_path(directory: str, parts: list[str]) -> None:
    path = os.path.normpath(os.path.join(directory, *parts))
    names = Names(ALICE)
    assert path in [each for _, each in names.paths(names.name(path))]


@pytest.mark.parametrize(
    ("alice", "bob"),
    [
        ("/home/alice/code/ws/app/x", "/srv/checkouts/of bob/app/x"),
        ("/home/alice/code/ws", "/srv/checkouts/of bob"),
        ("/home/alice/code/ws/target/debug/x", "/srv/checkouts/of bob/target/debug/x"),
        ("/home/alice/.cargo/config.toml", "/data/bob/.cargo/config.toml"),
        ("/home/alice/.gitconfig", "/data/bob/.gitconfig"),
        ("/usr/bin/cc", "/usr/bin/cc"),
    ],
)
def test_names_are_the_same_for_everybody(alice: str, bob: str) -> None:
    assert Names(ALICE).name(alice) == Names(BOB).name(bob)
    assert [path for _, path in Names(BOB).paths(Names(ALICE).name(alice))] == [bob]


def test_what_lies_beside_the_way_is_looked_for_along_everybodys() -> None:
    name = Names(BOB).name("/srv/.git")
    assert name == "above:.git"
    paths = {path for _, path in Names(ALICE).paths(name)}
    assert paths >= {"/home/alice/code/.git", "/home/alice/.git", "/home/.git", "/.git"}


@given(st.text(alphabet="/abc \n=:;'\"", max_size=30))
def test_staged_texts_come_back(text: str) -> None:
    data = f"{text}/home/alice/code/ws/x {text}".encode()
    assert unstaged(staged(data, ALICE), ALICE) == data


AROUND = Surroundings(own="/w/out", unseen=("/w/target/build",), temporary="/tmp")


def sorted_out(*accesses: str, around: Surroundings = AROUND) -> Seen:
    return sort_out([(each[0], each[1:]) for each in accesses], around)


def test_accesses_on_the_wire() -> None:
    assert decode(b"o/a\nb\0s/\xff\0!words\0") == [
        ("o", "/a\nb"), ("s", os.fsdecode(b"/\xff")), ("!", "words"),
    ]  # fmt: skip
    assert decode(b"") == []


def test_what_counts_as_read() -> None:
    seen = sorted_out("s/a", "o/a", "s/a", "s/b", "x/usr/bin/cc", "o/w/out/x", "o/w/target/build/y")
    assert seen.reads == {"/a": "o", "/b": "s", "/usr/bin/cc": "o"}
    assert seen.programs == {"/usr/bin/cc"}
    assert seen.trouble is None


def test_paths_are_taken_by_their_normal_form(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/deep")
    seen = sorted_out(f"o{tmp_path}/link/../file", "o/a//b/./c", "s/w/outer", "o/usr/../opt/x")
    assert set(seen.reads) == {f"{tmp_path}/real/file", "/a/b/c", "/w/outer", "/opt/x"}
    seen = sorted_out("o/../opt/x", "o/a/../..", "o/usr/../proc/1/environ")
    assert set(seen.reads) == {"/opt/x", "/"} and seen.trouble == "it reads /proc/1/environ"


@pytest.mark.parametrize(
    ("accesses", "trouble"),
    [
        (["c/w/out/x", "m/w/out/x"], None),
        (["c/w/src/x"], "it writes /w/src/x"),
        (["c/w/rmetaUpHROR", "c/w/rmetaUpHROR/full.rmeta", "m/w/rmetaUpHROR"], None),
        (["m/w/rmetaUpHROR"], "it writes /w/rmetaUpHROR"),
        (["s/dev", "s/proc"], None),
        (["o/dev"], "it reads /dev"),
        (["m/w/src/x"], "it writes /w/src/x"),
        (["c/tmp/x", "m/tmp/x", "o/tmp/x", "c/tmp/x/y", "m/tmp/x/y"], None),
        (["m/tmp/x"], "it writes /tmp/x"),
        (["m/tmp/x", "c/tmp/x"], "it writes /tmp/x"),
        (["o/proc/swaps"], "it reads /proc/swaps"),
        (["o/proc/self/environ"], "it reads /proc/self/environ"),
        (["o/proc/12/cmdline"], "it reads /proc/12/cmdline"),
        (["o/proc/sys/kernel/domainname"], "it reads /proc/sys/kernel/domainname"),
        (["o/dev/shm/x"], "it reads /dev/shm/x"),
        (["s/sys/fs/selinux", "o/proc/filesystems"], None),
        (["s/sys/fs/selinux/enforce"], "it reads /sys/fs/selinux/enforce"),
        (["o/proc/self/maps", "m/dev/null", "o/dev/urandom", "s/proc/12/fd/3"], None),
        (["!words", "c/w/src/x"], "words"),
        (["l/w/out/b", "l/tmp"], None),
        (["l/w/src"], "it makes a link to /w/src that is gone"),
    ],
)
def test_what_is_not_kept(accesses: list[str], trouble: str | None) -> None:
    assert sorted_out(*accesses).trouble == trouble


def test_what_was_read_before_it_was_made_counts() -> None:
    assert sorted_out("s/tmp/x", "c/tmp/x", "o/tmp/x").reads == {"/tmp/x": "s"}


def test_reads_through_a_link_in_out_dir(tmp_path: Path) -> None:
    """They are reads of where it leads; writes are writes there."""
    out, package = tmp_path / "out", tmp_path / "package"
    (out / "in").mkdir(parents=True)
    package.mkdir()
    (out / "link").symlink_to(package)
    (out / "own").symlink_to("in")
    links = links_out(str(out))
    assert links == {str(out / "link"): str(package)}
    around = replace(AROUND, own=str(out), links=links, temporary="/elsewhere")
    begin = [f"c{out}/link", f"l{package}"]
    seen = sorted_out(*begin, f"o{out}/link/x", f"o{out}/own/y", around=around)
    assert (seen.reads, seen.trouble) == ({f"{package}/x": "o"}, None)
    seen = sorted_out(*begin, f"c{out}/link/x", around=around)
    assert seen.trouble == f"it writes {package}/x"


def test_what_is_left_behind(tmp_path: Path) -> None:
    around = replace(AROUND, temporary=str(tmp_path))
    seen = sorted_out(f"c{tmp_path}/x", f"c{tmp_path}/y", around=around)
    assert left_behind(seen) is None
    (tmp_path / "y").symlink_to("nowhere")
    assert left_behind(seen) == f"{tmp_path}/y"


def test_the_words_that_both_ends_know() -> None:
    assert f'#define OTHER_RIGHTS "{OTHER_RIGHTS}"' in WATCH.read_text()


RECORDS = st.builds(
    Record,
    paths=st.frozensets(st.tuples(st.sampled_from("osp"), st.text())),
    variables=st.frozensets(st.text()),
    tokens=st.text(),
    reach=st.sampled_from(["none", "known", "known git", "any"]),
)


@given(st.lists(RECORDS, max_size=8, unique=True))
def test_records_are_read_as_they_were_written(records: list[Record]) -> None:
    assert load_records(dump_records(records)) == records


def test_the_newest_records_are_kept() -> None:
    records = [
        Record(paths=frozenset({("s", str(n))}), variables=frozenset(), tokens="", reach="none")
        for n in range(20)
    ]
    assert load_records(dump_records([records[0], *records])) == records[:8]


@given(st.binary(max_size=40) | st.sampled_from([b"{}", b'[{"paths":[1]}]', b"1", b"[1]"]))
def test_what_is_no_record(data: bytes) -> None:
    with suppress(NotNameable):
        assert load_records(data) == []


def test_a_path_without_a_name_is_refused() -> None:
    with pytest.raises(NotNameable, match="UTF-8"):
        named(Seen(reads={os.fsdecode(b"/usr/\xff"): "o"}), Names(ALICE))


@pytest.fixture
def place(tmp_path: Path) -> Roots:
    (tmp_path / "ws" / "app").mkdir(parents=True)
    return roots_of(str(tmp_path / "home"), str(tmp_path / "ws"))


def value(roots: Roots, kind: str, path: Path) -> str:
    names = Names(roots, f"{roots.workspace}/bin:/usr/bin")
    name = path.name if kind == "p" else names.name(str(path))
    (found,) = Values(FileDigests(PREFERRED), BuildStarts()).of([(kind, name)], names)
    return str(found[2])


def test_the_systems_files_are_looked_at_in_each_build(
    place: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds, names = BuildStarts(), Names(place, "/usr/bin")
    values = Values(FileDigests(PREFERRED), builds)
    file = Path(place.package) / "x"
    monkeypatch.setattr(reads, "_OF_THE_SYSTEM", (names.name(str(file)),))

    def seen(content: str) -> Any:
        file.write_text(content)
        return values.of([("o", names.name(str(file)))], names)

    builds.note("one")
    first = seen("one")
    builds.note("one")
    assert seen("two") == first
    builds.note("two")
    assert seen("two") != first


def test_values_tell_apart(place: Roots) -> None:
    file = Path(place.package) / "x"
    seen = [value(place, "o", file)]

    def changed(kind: str = "o") -> None:
        seen.append(value(place, kind, file))
        assert len(set(seen)) == len(seen), seen

    file.write_text("one")
    changed()
    file.write_text("two")
    changed()
    file.chmod(0o755)
    changed()
    file.unlink()
    file.symlink_to("nowhere")
    changed()
    file.unlink()
    file.mkdir()
    changed()
    (file / "a").write_text("")
    changed()
    (file / "a").unlink()
    (file / "a").mkdir()
    changed()
    assert "'directory'" in value(place, "s", file)


@pytest.fixture
def nobody() -> Iterator[None]:
    """The test has an ordinary user's rights."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    yield
    os.seteuid(mine)


def test_what_may_not_be_looked_at(nobody: None) -> None:
    """As `/etc/ssl/private` for who globs for libraries; it is the same for all who may not."""
    with TemporaryDirectory() as directory:
        roots = roots_of(f"{directory}/home", f"{directory}/ws")
        closed = Path(directory) / "ws" / "app"
        (closed / "below").mkdir(parents=True)
        (closed / "file").write_text("1")
        (closed / "file").chmod(0)
        seen = {value(roots, "o", closed / "file"), value(roots, "o", closed / "below")}
        closed.chmod(0o100)
        seen.add(value(roots, "o", closed))
        closed.chmod(0)
        for kind in "os":
            seen.add(value(roots, kind, closed / "below"))
        closed.chmod(0o700)
        (closed / "file").chmod(0o600)
        (closed / "file").write_text("22")
        (closed / "file").chmod(0)
        seen.add(value(roots, "o", closed / "file"))
        assert len(seen) == 5
        assert sum("denied" in each for each in seen) == 4


def test_programs_are_what_path_finds(place: Roots) -> None:
    program = Path(place.workspace) / "bin" / "odd-program"
    none = value(place, "p", program)
    program.parent.mkdir()
    program.write_text("one")
    text = value(place, "p", program)
    program.chmod(0o755)
    first = value(place, "p", program)
    program.write_text("two")
    assert len({none, text, first, value(place, "p", program)}) == 4


def test_where_path_finds_a_program_counts(place: Roots) -> None:
    """What lies beside it is read by where that is; by which of two names it is found does not."""
    found = []
    for name in ("one", "two"):
        program = Path(place.workspace) / name / "bin" / "tool"
        program.parent.mkdir(parents=True)
        program.symlink_to("/bin/true")
        (Path(place.workspace) / f"to-{name}").symlink_to(name)
        for search in (name, f"to-{name}"):
            names = Names(place, f"{place.workspace}/{search}/bin:/usr/bin")
            found.append(Values(FileDigests(PREFERRED), BuildStarts()).of([("p", "tool")], names))
    assert found[0] == found[1] != found[2] == found[3]


def test_a_search_along_path_is_noted_as_one(place: Roots) -> None:
    names = Names(place, "/nowhere:/usr/bin")
    found = named(Seen(reads={"/nowhere/tool": "s", "/usr/bin/tool": "s", "/opt/x": "o"}), names)
    assert ("p", "tool") in found
    assert ("p", "x") not in found


def test_what_was_changed_meanwhile(tmp_path: Path) -> None:
    file, absent, listed = tmp_path / "a" / "x", tmp_path / "b" / "c" / "x", tmp_path / "d"
    for directory in (file.parent, tmp_path / "b", listed):
        directory.mkdir()
    file.write_text("")
    seen = Seen(reads={str(file): "o", str(absent): "s", str(listed): "o"})
    for path in (file, file.parent, tmp_path / "b", listed):
        os.utime(path, (1, 1))
    now = time.time_ns()
    assert changed_since(seen, now + 10**9, ("/target",)) is None
    for change, wanted in (
        (lambda: file.write_text("y"), file),
        (lambda: (tmp_path / "b" / "c").mkdir(), tmp_path / "b" / "c"),
        (lambda: (listed / "new").touch(), listed),
    ):
        time.sleep(0.05)
        started = time.time_ns()
        assert changed_since(seen, started + 10**9, ("/target",)) is None
        change()
        assert changed_since(seen, started, ("/target",)) == str(wanted)
        time.sleep(0.05)
    assert changed_since(Seen(reads={str(absent): "s"}), 0, (str(tmp_path),)) is None
    busy = {str(absent.parent)}
    assert changed_since(Seen(reads={str(absent): "s"}), 0, ("/target",), busy) is None
    gone = Seen(reads={str(absent): "s"}, there={str(absent)})
    assert changed_since(gone, 0, (str(tmp_path),)) == str(absent)


def key(roots: Roots, *, program: bytes = b"p", reads: str = "", **more: str) -> str:
    environment = {"OUT_DIR": f"{roots.out_dir}/out", "TARGET": "t"}
    script = script_action(Digest.of(program, PREFERRED), environment, roots, "x86_64")
    variables = {name: roots.stage_text(value) for name, value in more.items()}
    values = tuple(("o", "x", (("", each),)) for each in reads)
    return run_action(script, DependsOn(reads=values, variables=variables)).digest.hash


@pytest.mark.parametrize("way", ["one", "link"])
def test_ways_that_led_elsewhere(tmp_path: Path, way: str) -> None:
    """A directory that was renamed and back, or a link that was turned and back, while it ran."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "text").touch()
    (tmp_path / "link").symlink_to("one")
    seen = Seen(reads={str(tmp_path / way / "text"): "o"})
    places = [str(tmp_path)]
    time.sleep(0.05)
    started = time.time_ns()
    assert changed_since(seen, started + 10**9, ("/target",), (), places) is None
    time.sleep(0.05)
    if way == "one":
        (tmp_path / "one").rename(tmp_path / "away")
        (tmp_path / "away").rename(tmp_path / "one")
    else:
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("one")
    assert changed_since(seen, started, ("/target",), (), places) == str(tmp_path / way)
    assert changed_since(seen, started, (str(tmp_path),), (), places) is None


def test_keys() -> None:
    assert key(ALICE, A=f"{ALICE.workspace}/x") == key(BOB, A=f"{BOB.workspace}/x")
    different = [
        key(ALICE), key(ALICE, program=b"q"), key(ALICE, reads="1"), key(ALICE, A="1"),
        key(ALICE, reads="2"), key(ALICE, A="2"), key(ALICE, B="1"),
    ]  # fmt: skip
    assert len(set(different)) == len(different)


def test_flags_for_c_come_after_the_users() -> None:
    environment = {"TARGET": "x86_64-unknown-linux-gnu", "HOST": "x86_64-unknown-linux-gnu"}
    found = c_flags(ALICE, {**environment, "CFLAGS": "-O3", "HOST_CFLAGS": "-O2"})
    assert found["CFLAGS_x86_64_unknown_linux_gnu"].startswith("-O2 -ffile-prefix-map=")
    assert f"={ALICE.workspace}=/proc/self/cwd " in found["CFLAGS_x86_64_unknown_linux_gnu"] + " "
    assert c_flags(BOB, environment) == {}  # its path has a space
    assert c_flags(ALICE, {}) == {}
    # of two forms of one variable cc takes one, or both
    dashed = {**environment, "CFLAGS_x86_64-unknown-linux-gnu": "-DA"}
    assert c_flags(ALICE, dashed)["CFLAGS_x86_64_unknown_linux_gnu"].startswith("-DA -ffile")
    both = {**dashed, "CFLAGS_x86_64_unknown_linux_gnu": "-DB"}
    assert c_flags(ALICE, both).keys() == {"CXXFLAGS_x86_64_unknown_linux_gnu"}


@pytest.mark.parametrize(
    "form", ["%a %b %e %H:%M:%S UTC %Y", "%Y-%m-%dT%H:%M:%SZ", "%b %e %Y", "%s", "%c"]
)
def test_dates_are_found(form: str) -> None:
    now = time.time()
    said = time.strftime(form, time.gmtime(now)).encode()
    assert any(each in said for each in times(now, is_asked=False))
