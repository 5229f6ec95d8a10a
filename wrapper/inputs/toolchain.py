"""The minimal toolchain as ordinary inputs: driver, its libraries, the target's std and linker."""

from __future__ import annotations

import os
import platform
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.tree_builder import TreeBuilder
from wrapper.build_scripts.names import is_shared
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.loaded_libraries import libraries_of
from wrapper.inputs.snapshot import Snapshot, Source, skip_nothing, take_snapshot
from wrapper.inputs.toolchain_files import files_of, toolchain_parts
from wrapper.roots import Place
from wrapper.rustc.arguments import NotUnderstood

PROBE_TIMEOUT = 60.0
_TRUSTED_SECONDS = 1.0
OTHER_LIBRARY = "/lib64/rustlib"
"""Where rustc looks in a sysroot before `lib`."""

_OF_RUSTUP = "/toolchains/"
"""In the paths of toolchains that are whole in one directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """A sysroot and what `rustc -vV` says of it.

    A sysroot that `is_shared` holds other programs too, as a distribution's does. `libraries` are
    those, of these or outside of it, that are the compiler's and not every program's.
    """

    sysroot: str
    host: str
    commit: str
    is_shared: bool = False
    libraries: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """The files and directories that are its own."""
        if self.is_shared:
            own = (f"{self.sysroot}/lib/rustlib", f"{self.sysroot}/bin/rustc")
            return (*own, *self.libraries)
        return (self.sysroot, *self.libraries)

    @property
    def sources(self) -> Place | None:
        """The standard library's source, whose paths rustc records unremapped where it is there."""
        path = f"{self.sysroot}/lib/rustlib/src/rust"
        if not os.path.isdir(f"{path}/library"):
            return None
        return Place(real=path, staged="", recorded=f"/rustc/{self.commit}")


class Toolchains:
    """Memory of the toolchains seen; each is examined once and hashed once a version."""

    def __init__(self, files: FileDigests, builds: BuildStarts) -> None:
        self._files = files
        self._builds = builds
        self._looked_at: dict[tuple[str, str, str, bool], float] = {}
        self._found: dict[tuple[str, int, int, int], Toolchain] = {}
        self._snapshots: dict[tuple[str, str, str, bool], tuple[object, Snapshot]] = {}
        self._lock = threading.Lock()
        self._hashing = threading.Lock()

    def find(self, driver: str, environment: Mapping[str, str]) -> Toolchain:
        """The toolchain of a driver's path. Raises NotUnderstood when it does not say."""
        if not os.path.isabs(driver):
            raise NotUnderstood(f"the compiler {driver} is not named by an absolute path")
        try:
            st = os.stat(driver)
        except OSError as error:
            raise NotUnderstood(f"cannot read the compiler {driver}: {error.strerror}") from error
        key = (driver, st.st_ino, st.st_size, st.st_mtime_ns)
        with self._lock:
            if key not in self._found:
                self._found[key] = _examine(driver, environment)
            return self._found[key]

    def knows(self, toolchain: Toolchain) -> bool:
        """Whether a snapshot of it was taken."""
        return any(key[0] == toolchain.sysroot for key in self._snapshots)

    def snapshot(
        self,
        toolchain: Toolchain,
        driver_name: str,
        target: str | None,
        *,
        backends: bool = False,
        looks_again: bool = False,
    ) -> Snapshot:
        """The files that a compile for `target` needs, `backends`: with another than LLVM. Raises
        OSError or NotSendable."""
        key = (toolchain.sysroot, driver_name, target or toolchain.host, backends)
        now = time.monotonic()
        looked_at = self._looked_at.get(key, float("-inf"))
        if self._builds.is_recent(looked_at, _TRUSTED_SECONDS) and not looks_again:
            return self._snapshots[key][1]
        parts = toolchain_parts(
            toolchain.sysroot, toolchain.host, driver_name, target,
            backends=backends, is_shared=toolchain.is_shared,
        )  # fmt: skip
        # rustup replaces the files of a channel in place: each is looked at
        seen = tuple(_seen(f"{toolchain.sysroot}/{path}") for path in parts)
        with self._hashing:
            known = self._snapshots.get(key)
            if known is None or known[0] != seen:
                known = self._snapshots[key] = (seen, self._take(toolchain.sysroot, parts))
            self._looked_at[key] = now
            return known[1]

    def libraries(self, toolchain: Toolchain) -> dict[str, Digest]:
        """What is in those outside of its sysroot, by their paths. Raises OSError."""
        return {path: self._files.digest_mapped(path) for path in toolchain.libraries}

    def _take(self, root: str, parts: list[str]) -> Snapshot:
        builder = TreeBuilder(self._files.function)
        blobs: dict[Digest, Source] = {}
        # half a gigabyte, known afterwards by its stat
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(self._files.digest_mapped, files_of(root, parts)))
        for path in parts:
            real = f"{root}/{path}"
            if os.path.isdir(real):
                part = take_snapshot(real, self._files, skip_nothing)
                blobs.update(part.blobs)
                builder.add_directory(path, part.root)
                continue
            st = os.stat(real)
            digest = self._files.digest(real, st)
            blobs[digest] = real
            builder.add_file(path, digest, executable=bool(st.st_mode & 0o111))
        made: dict[Digest, bytes] = {}
        return Snapshot(builder.build(made), {**blobs, **made})


def _seen(path: str) -> tuple[object, ...]:
    """What of a file, or of all files below a directory, changes when they do."""
    try:
        st = os.stat(path)
    except FileNotFoundError:
        st = os.lstat(path)  # leads to what another package has
    if not os.path.isdir(path):
        return (path, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    with os.scandir(path) as entries:
        return (path, *(_seen(path) for path in sorted(entry.path for entry in entries)))


def _examine(driver: str, environment: Mapping[str, str]) -> Toolchain:
    rustc = driver
    if os.path.basename(driver) != "rustc":
        rustc = os.path.join(os.path.dirname(driver), "rustc")
        if not os.path.exists(rustc):
            raise NotUnderstood(f"the compiler {driver} has no rustc beside it")
    keep = ("PATH", "HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_HOME")
    environment = {k: environment[k] for k in keep if k in environment}

    def ask(*arguments: str) -> str:
        try:
            done = subprocess.run(
                [rustc, *arguments], env=environment, capture_output=True, text=True,
                timeout=PROBE_TIMEOUT, check=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise _does_not_say(rustc, error) from error
        return done.stdout

    # each takes tens of milliseconds, and a first build waits for both
    with ThreadPoolExecutor(2) as threads:
        said, version = threads.map(lambda words: ask(*words), (("--print", "sysroot"), ("-vV",)))
    sysroot = said.strip()
    lines = dict(line.split(": ", 1) for line in version.splitlines() if ": " in line)
    own = f"{sysroot}/bin/{os.path.basename(driver)}"
    if not os.path.isfile(own) or not os.path.samefile(own, driver):
        raise NotUnderstood(f"the compiler {driver} is not part of its sysroot {sysroot}")
    commit = lines.get("commit-hash", "unknown")
    is_alone = _OF_RUSTUP in sysroot
    return Toolchain(
        sysroot=sysroot,
        host=lines.get("host", ""),
        # as rustc names its sources where its builder did not know it
        commit=commit if commit != "unknown" else lines.get("release", ""),
        is_shared=not is_alone and is_shared(sysroot),
        libraries=() if is_alone else _own_libraries(driver, sysroot),
    )


def _does_not_say(program: str, error: Exception) -> NotUnderstood:
    return NotUnderstood(f"cannot ask {program} about itself: {error}")


def _own_libraries(driver: str, sysroot: str) -> tuple[str, ...]:
    try:
        found = libraries_of(driver)
    except (OSError, subprocess.SubprocessError) as error:
        raise _does_not_say(driver, error) from error
    if not is_shared(sysroot):
        return tuple(path for path in found if not path.startswith(f"{sysroot}/"))
    is_elsewhere = os.path.exists(sysroot + OTHER_LIBRARY)
    if is_elsewhere or not any("librustc_driver" in path for path in found):
        raise NotUnderstood(f"the compiler shares {sysroot} with other programs")
    return found


def machine() -> str:
    """The processor architecture, as platform properties name it."""
    return platform.machine()
