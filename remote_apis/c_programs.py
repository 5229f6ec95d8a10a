"""Small programs in C that come as source: compiled with the package, else when first needed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CProgram:
    """A program of some sources in a directory; those that end with `.c` are compiled.

    Called without arguments it says what it is, and exits with 1 or 2. `is_static`: it needs no
    libraries, where the C compiler can do that. `is_library`: it is no program, but loaded into
    others beside what they are linked with.
    """

    name: str
    directory: Path
    sources: tuple[str, ...]
    is_static: bool = False
    is_library: bool = False

    def texts(self) -> list[bytes]:
        """The sources' content. Raises OSError."""
        return [(self.directory / source).read_bytes() for source in self.sources]

    def build(self, built: Path) -> None:
        """Compile into the directory `built` for `take`, where a C compiler is. Raises OSError."""
        built.mkdir(exist_ok=True)
        for old in built.glob(f"{self.name}-*"):
            old.unlink()
        self._compile(built / self._built_name())

    def take(self, built: Path, output: Path) -> bool:
        """Have the program of these very sources at `output`, from `built` or compiled now.

        False where there is no C compiler that works. Raises OSError.
        """
        return self._copy(built / self._built_name(), output) or self._compile(output)

    def is_built(self, built: Path) -> bool:
        """Whether the program of these very sources is in `built`."""
        return (built / self._built_name()).exists()

    def _built_name(self) -> str:
        digest = hashlib.sha256(b"\0".join(self.texts())).hexdigest()
        return f"{self.name}-{digest[:16]}"

    def _copy(self, built: Path, output: Path) -> bool:
        try:
            shutil.copyfile(built, output)
            output.chmod(0o755)
            if self.is_library:
                return _can_be_loaded(output)
            # another code than its own says that it cannot start on this machine
            done = subprocess.run([output], capture_output=True, timeout=_TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode in (1, 2)

    def _compile(self, output: Path) -> bool:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            return False
        files = [str(self.directory / name) for name in self.sources if name.endswith(".c")]
        kind = ["-shared", "-fPIC"] if self.is_library else []
        for options in [["-static"], []] if self.is_static else [kind]:
            command = [compiler, "-O1", "-pthread", *options, "-o", str(output), *files]
            try:
                done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
            except (OSError, subprocess.TimeoutExpired):
                return False
            if done.returncode == 0:
                return True
        return False


def _can_be_loaded(library: Path) -> bool:
    """Whether programs of this machine start with a library. Raises OSError."""
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(
        ["true"], env=environment, capture_output=True, timeout=_TIMEOUT, check=False
    )
    return done.returncode == 0 and not done.stderr
