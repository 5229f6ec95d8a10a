"""Configuration files for calls that `cargo distbuild` did not start: the wrapper used by hand."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from wrapper.config import ConfigError, Value, config_files, read_file, variables_of
from wrapper.daemon.cargos import cargos_directory
from wrapper.daemon.protocol import Call
from wrapper.daemon.telling import Tell, Warnings

_REMEMBERED = 200


class Configs:
    """Reads the files of a call's cargo; each once for as long as it does not change."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[tuple[int, int, int], dict[str, Value] | ConfigError]] = {}
        self._warnings = Warnings()

    def apply(self, call: Call, tell: Tell) -> Call:
        """The call with its settings. A file that is wrong is left out, and the user is told."""
        if "DISTBUILD_BUILD" in call.environment:
            return call  # cargo distbuild has read them, and passed them on
        values: dict[str, Value] = {}
        for path in config_files(Path(cargos_directory(call)), call.environment):
            found = self._file(path)
            if isinstance(found, ConfigError):
                line = f"{found}; the file is left out"
                self._warnings.warn(call, tell, line, about=str(found))
            else:
                values = found | values
        return replace(call, configured=variables_of(values, call.environment))

    def _file(self, path: Path) -> dict[str, Value] | ConfigError:
        try:
            st = os.stat(path)
        except OSError as error:
            return ConfigError(f"{path}: {error.strerror}")
        stamp = (st.st_ino, st.st_size, st.st_mtime_ns)
        known = self._read.get(path)
        if known is None or known[0] != stamp:
            if len(self._read) >= _REMEMBERED:
                self._read.clear()
            try:
                known = (stamp, read_file(path))
            except ConfigError as error:
                known = (stamp, error)
            self._read[path] = known
        return known[1]
