"""cargo distbuild and a bad network: the build is well, it is said once why, and it ends soon."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from developers import Developer, away_from, developer, outcomes
from rounds import kinds
from running import running_server
from toxiproxy import Proxy, toxiproxy

from tests.interop.programs import Tools, default_directory

WARNING = "warning: distbuild:"
BOUND = 120.0
"""Seconds for a build of six small crates whose server does not answer: a lookup gives up after
10, a call that had begun is found dead by keepalive after 80."""
pytestmark = [pytest.mark.fault, pytest.mark.cargo, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    proxy: Proxy
    dev: Developer
    checkout: Path

    def build(self) -> str:
        """`cargo distbuild build` from nothing; what it said."""
        self.dev.run("cargo", "clean", cwd=self.checkout)
        began = time.monotonic()
        done = self.dev.run("cargo", "distbuild", "build", cwd=self.checkout)
        assert time.monotonic() - began < BOUND
        assert self.dev.run(self.checkout / "target/debug/main-binary", cwd=self.checkout).stdout
        return done.stderr

    def outcomes(self) -> set[str]:
        return outcomes(self.dev.units(self.checkout))

    def new_daemon(self) -> None:
        """One that remembers of no server that it was down."""
        self.dev.run("cargo", "distbuild", "stop", cwd=self.checkout)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with (
        running_server(tmp_path / "data", "--workers", "2") as server,
        toxiproxy(Tools(directory=default_directory()).toxiproxy) as network,
    ):
        proxy = network.proxy("cargo", server.target)
        # else blobs would be copied, past the proxy
        with developer(tmp_path / "dev", proxy.url, prefix=away_from(server.data_dir)) as dev:
            yield Site(proxy=proxy, dev=dev, checkout=dev.checkout("workspace"))
        proxy.heal()


@pytest.mark.parametrize("how", kinds(1, ["black-hole", "reset", "cut"]))
def test_a_network_that_is_gone(how: str, site: Site) -> None:
    if how == "cut":
        site.proxy.cut()
    else:
        for stream in ("upstream", "downstream"):
            site.proxy.poison("timeout" if how == "black-hole" else "reset_peer", stream, timeout=0)
    said = site.build()
    assert said.count(WARNING) == 1, said
    assert site.proxy.url in said and "compiling on this machine" in said
    assert site.outcomes() == {"local"}
    site.proxy.heal()
    # back, and in the whole run slow: that is no reason to do without it
    for stream in kinds(0, ["upstream", "downstream"]):
        site.proxy.poison("latency", stream, latency=30, jitter=10)
    site.new_daemon()
    shutil.rmtree(site.dev.home / "cache")  # it has what was compiled here meanwhile
    assert WARNING not in site.build()
    assert site.outcomes() == {"remote"}


@pytest.mark.parametrize("how", kinds(1, ["cut", "black-hole"]))
def test_gone_in_the_middle_of_a_build(how: str, site: Site) -> None:
    site.dev.run("cargo", "clean", cwd=site.checkout)
    began = time.monotonic()
    with subprocess.Popen(
        [*site.dev.prefix, "cargo", "distbuild", "build"],
        cwd=site.checkout, env=site.dev.environment,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while not list(site.checkout.glob("target/debug/deps/*.rlib")):
            assert process.poll() is None and time.monotonic() < began + BOUND
            time.sleep(0.02)
        if how == "cut":
            site.proxy.cut()
        else:
            for stream in ("upstream", "downstream"):
                site.proxy.poison("timeout", stream, timeout=0)
        _, said = process.communicate(timeout=2 * BOUND)
    print(time.monotonic() - began, said)
    assert process.returncode == 0, said
    assert said.count(WARNING) == 1, said
    assert site.outcomes() == {"remote", "local"}
    assert site.dev.run(site.checkout / "target/debug/main-binary", cwd=site.checkout).stdout
