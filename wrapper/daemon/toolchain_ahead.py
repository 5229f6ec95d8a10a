"""Hash the compiler that a first build will most likely use while the daemon's modules load.

Each takes a tenth of a second, and the first unit waits for both. In a process of its own, as a
thread would wait for the interpreter that reads modules, and make that wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from remote_apis.digest_functions import DigestFunction
from wrapper.inputs.hashing import Ahead, FileIdentity, hash_read
from wrapper.inputs.toolchain_files import files_of, toolchain_parts

_LESS_URGENT = 5
"""Than to load the modules, and than cargo."""

_MAX_DESCRIPTOR = 1 << 16


def hash_ahead(sysroot: str, function: DigestFunction) -> Ahead:
    """Begin to hash a toolchain as rustup lays it out, whose name ends with the host's triple.

    To be called while there are no threads. Raises OSError.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):  # whoever needs the compiler finds out
            # the daemon's lock before all: it may be gone before us
            os.closerange(3, writer)
            os.closerange(writer + 1, _MAX_DESCRIPTOR)
            os.nice(_LESS_URGENT)
            with open(writer, "w") as pipe:
                json.dump(list(_hashes(sysroot, function)), pipe)
        os._exit(0)
    os.close(writer)
    # read at once, so that the process ends whether or not anybody asks
    threads = ThreadPoolExecutor(1, "toolchain-ahead")
    found = threads.submit(_said, reader, child)
    threads.shutdown(wait=False)
    return found.result


def _said(reader: int, child: int) -> list[tuple[FileIdentity, str]]:
    with open(reader) as pipe:
        said = pipe.read()
    with contextlib.suppress(ChildProcessError):  # where nobody waits for children
        os.waitpid(child, 0)
    try:
        return [(FileIdentity(*identity), hash_) for identity, hash_ in json.loads(said)]
    except ValueError:
        return []  # it was killed


def _hashes(sysroot: str, function: DigestFunction) -> Iterator[tuple[FileIdentity, str]]:
    targets = os.listdir(f"{sysroot}/lib/rustlib")
    host = next((each for each in targets if sysroot.endswith(f"-{each}")), None)
    if host is None:
        return
    files = files_of(sysroot, toolchain_parts(sysroot, host, "rustc", None))
    begun = time.time_ns()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        # read and not mapped: nobody else wants this process's interpreter
        for identity, hash_, _ in threads.map(lambda path: hash_read(path, function), files):
            if identity.is_settled(begun):
                yield identity, hash_
