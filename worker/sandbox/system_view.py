"""What of this machine an action sees in bubblewrap: programs, and an /etc that tells nothing."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from remote_apis.bubblewrap import show_programs

_LOG = logging.getLogger(__name__)
# Parts of /etc that programs below /usr are incomplete without. They are copied, as each mount
# costs an action a tenth of a millisecond. Whatever changes these changes the time of what is named
# here: programs that edit them replace files and links, and ld.so.conf.d counts by ld.so.cache.
_COPIED_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d")
_OPTIONAL_ETC = "java-*"
# What programs on the network find hosts by, and trust them.
_NETWORK_ETC = ("resolv.conf", "ssl/certs", "ca-certificates", "pki/ca-trust", "pki/tls/certs")


class SystemView:
    """Shows programs, an /etc made in `directory`, and `more` paths, all read-only.

    `users` are the ids that actions may run as; `added` programs lie in /etc, as a mount would cost
    more; `guarded`: another user than theirs sets all up; `network`: they can look hosts up.
    """

    def __init__(
        self,
        directory: Path,
        users: Iterable[int],
        more: Iterable[Path] = (),
        *,
        added: Iterable[Path] = (),
        guarded: bool = False,
        network: bool = False,
        host: Path = Path("/etc"),
    ) -> None:
        """`directory` is made anew when it is needed; `host` is this machine's /etc."""
        self._directory = directory
        self._host = host
        self._users = tuple(users)
        self._more = tuple(more)
        self._added = tuple(added)
        self._is_guarded = guarded
        self._network = network
        self._numbers = itertools.count()
        shutil.rmtree(directory, ignore_errors=True)
        self._stamp: list[tuple[int, int]] = []
        self._arguments: list[str] = []

    def arguments(self) -> list[str]:
        """For bubblewrap. When this machine's /etc changed, it is made again.

        The former one stays: actions that run see it. Raises OSError the first time.
        """
        stamp = _stamp(self._host)
        if stamp != self._stamp:
            try:
                self._arguments = self._make()
            except OSError as error:
                if not self._arguments:
                    raise
                _LOG.warning("actions see /etc as it was: %s", error)
            else:
                self._stamp = stamp
        return self._arguments

    def _make(self) -> list[str]:
        etc = self._directory / str(next(self._numbers))
        _make_etc(etc, self._users, "files dns" if self._network else "files")
        for name in _COPIED_ETC:
            _copy(self._host / name, etc / name)
        for path in self._added:
            shutil.copy(path, etc / path.name)
        arguments = [*show_programs(), "--ro-bind", str(etc), "/etc"]
        names = _NETWORK_ETC if self._network else ()
        shared = [self._host / name for name in names if (self._host / name).exists()]
        for path in [*shared, *sorted(self._host.glob(_OPTIONAL_ETC))]:
            # Something to mount over.
            place = etc / path.relative_to(self._host)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir() if path.is_dir() else place.touch()
            arguments += ["--ro-bind", str(path), f"/etc/{path.relative_to(self._host)}"]
        for path in self._more:
            arguments += ["--ro-bind", str(path), str(path)]
        arguments += _GUARDED_BY_USERS if self._is_guarded else [*PROCESSES, *DEVICES]
        return [*arguments, "--dir", "/run", "--dir", "/var", "--symlink", "/tmp", "/var/tmp"]


def _stamp(etc: Path) -> list[tuple[int, int]]:
    """Another one when what is copied is another."""
    found = []
    for name in _COPIED_ETC:
        try:
            status = os.stat(etc / name)
        except FileNotFoundError:
            found.append((0, 0))
        else:
            found.append((status.st_ino, status.st_mtime_ns))
    return found


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    elif source.exists():
        shutil.copy2(source, target)


PROCESSES = (
    *("--proc", "/proc"),
    *("--ro-bind-try", "/proc/sys", "/proc/sys"),
    *("--ro-bind-try", "/proc/sysrq-trigger", "/proc/sysrq-trigger"),
)
"""Arguments for a /proc of the namespace's own, where nothing of the machine can be set.

To the kernel an action of a worker that is root and keeps its user is root, whatever its number.
"""

DEVICES = (
    *("--dev", "/dev", "--remount-ro", "/dev"),
    *("--perms", "1777", "--tmpfs", "/dev/shm"),
)
"""Arguments for a /dev with the usual harmless devices and a private /dev/shm."""

# What belongs to another user needs no mounts that are read-only, which cost an empty action a
# twentieth of its time.
_GUARDED_BY_USERS = ("--proc", "/proc", "--dev", "/dev", "--chmod", "1777", "/dev/shm")


def _make_etc(etc: Path, users: Iterable[int], hosts: str) -> None:
    """Names for users, and nothing of this machine's."""
    etc.mkdir(parents=True)
    etc.chmod(0o755)
    passwd = ["root:x:0:0::/:/bin/sh", "nobody:x:65534:65534::/:/bin/false"]
    group = ["root:x:0:", "nogroup:x:65534:"]
    for uid in users:
        passwd.append(f"build:x:{uid}:{uid}::/tmp:/bin/sh")
        group.append(f"build:x:{uid}:")
    files = {
        "passwd": "\n".join(passwd),
        "group": "\n".join(group),
        "hosts": "127.0.0.1 localhost\n::1 localhost",
        "nsswitch.conf": f"passwd: files\ngroup: files\nhosts: {hosts}",
    }
    for name, content in files.items():
        (etc / name).write_text(content + "\n")
        (etc / name).chmod(0o644)
