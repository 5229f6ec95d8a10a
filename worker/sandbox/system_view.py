"""What of this machine an action sees in bubblewrap: its programs, and an /etc that tells nothing.

Arguments for bubblewrap are made here once, when the worker starts.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from remote_apis.bubblewrap import show_programs

# Parts of /etc that programs below /usr are incomplete without.
_SHARED_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d")
_OPTIONAL_ETC = "java-*"
# What programs on the network find hosts by, and trust them.
_NETWORK_ETC = ("resolv.conf", "ssl/certs", "ca-certificates", "pki/ca-trust", "pki/tls/certs")


def system_view(
    etc: Path, users: Iterable[int], more: Iterable[Path] = (), *, network: bool = False
) -> list[str]:
    """Arguments that show programs, an /etc made at `etc`, and `more` paths, all read-only.

    `users` are the ids that actions may run as; `network`: they can look hosts up. Raises OSError.
    """
    arguments = show_programs()
    shutil.rmtree(etc, ignore_errors=True)
    _make_etc(etc, users, "files dns" if network else "files")
    arguments += ["--ro-bind", str(etc), "/etc"]
    host = Path("/etc")
    names = [*_SHARED_ETC, *(_NETWORK_ETC if network else ())]
    shared = [host / name for name in names if (host / name).exists()]
    for path in [*shared, *sorted(host.glob(_OPTIONAL_ETC))]:
        # Something to mount over.
        place = etc / path.relative_to(host)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir() if path.is_dir() else place.touch()
        arguments += ["--ro-bind", str(path), str(path)]
    for path in more:
        arguments += ["--ro-bind", str(path), str(path)]
    arguments += [*PROCESSES, *DEVICES]
    return [*arguments, "--dir", "/run", "--dir", "/var", "--symlink", "/tmp", "/var/tmp"]


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
