"""Which files of a toolchain a compile needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator


def toolchain_parts(
    sysroot: str,
    host: str,
    driver_name: str,
    target: str | None,
    *,
    backends: bool = False,
    is_shared: bool = False,
) -> list[str]:
    """Files and whole directories below the sysroot. Raises OSError.

    `backends`: those beside LLVM too, which are a component that not everybody installs.
    `is_shared`: others' libraries lie there too, and all are left out.
    """
    parts = [f"bin/{driver_name}"]
    parts += [
        f"lib/{name}"
        for name in ([] if is_shared else sorted(os.listdir(f"{sysroot}/lib")))
        if ".so" in name and os.path.isfile(f"{sysroot}/lib/{name}")
    ]
    directories = [f"lib/rustlib/{host}/{name}" for name in ("lib", "bin")]
    directories += [f"lib/rustlib/{host}/codegen-backends"] if backends else []
    if target and target != host:
        directories.append(f"lib/rustlib/{target}/lib")
        specification = f"lib/rustlib/{target}/target.json"
        parts += [specification] if os.path.isfile(f"{sysroot}/{specification}") else []
    return parts + [path for path in directories if os.path.isdir(f"{sysroot}/{path}")]


def files_of(sysroot: str, parts: Iterable[str]) -> Iterator[str]:
    """The paths of all files of these parts."""
    for path in parts:
        real = f"{sysroot}/{path}"
        if not os.path.isdir(real):
            yield real
            continue
        for directory, _, names in os.walk(real):
            yield from (found for name in names if os.path.isfile(found := f"{directory}/{name}"))
