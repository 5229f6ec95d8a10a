"""A compiler that lies among others' files, as a distribution's does, or one in ~/.local."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from developers import EXAMPLE, Developer, outcomes, write
from running import BIN

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

READS = """use proc_macro::TokenStream;
#[proc_macro]
pub fn said(_: TokenStream) -> TokenStream {
    let said = concat!(env!("PREFIX"), "/said");
    format!("{:?}", std::fs::read_to_string(said).unwrap()).parse().unwrap()
}"""
OTHERS = {"said": "something", "lib/libother.so": ""}
MANIFEST = '[package]\nname = "{}"\nversion = "0.1.0"\nedition = "2021"\n'


@pytest.fixture(params=["/usr/local", ""])
def prefix(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the compiler is put."""
    local = tmp_path / "local"
    local.mkdir()
    return request.param or str(local)


def built(
    dev: Developer, prefix: str, first: Path, *checkouts: Path
) -> list[list[dict[str, object]]]:
    """The units of fresh builds with a compiler below `prefix`, where also lies what is in `first`,
    each known when the one before was kept."""
    asked = ["rustc", "--print", "sysroot"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    layers = f"{first}:{done.stdout.strip()}:{prefix}"
    script = [f"mount -t overlay -o lowerdir={layers} overlay {prefix}"]
    for number, checkout in enumerate(checkouts):
        script += [
            f"cd {shlex.quote(str(checkout))}", "rm -rf target", "cargo distbuild build",
            f"cargo distbuild stats --json >{dev.directory}/{number}", "cargo distbuild stop",
        ]  # fmt: skip
    apart = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m"]
    path = f"{prefix}/bin:{BIN}:/usr/bin:/bin"
    command = f"set -e; {'; '.join(script)}"
    dev.run(
        *apart, "sh", "-c", command,
        cwd=dev.directory, PATH=path, PREFIX=prefix, RUSTUP_TOOLCHAIN="",
    )  # fmt: skip
    found = (dev.directory / str(number) for number in range(len(checkouts)))
    return [json.loads(stats.read_text())["units"] for stats in found]


def test_it_is_kept_and_known(dev: Developer, tmp_path: Path, prefix: str) -> None:
    one, two = dev.checkout("one"), dev.checkout("two", EXAMPLE)
    new, known = built(dev, prefix, write(tmp_path / "more", OTHERS), one, two)
    assert outcomes(new) == {"local"}
    assert {unit["reason"] for unit in new} == {"new: no cache had it"}
    assert outcomes(known) == {"hit-local"}


def test_what_lies_beside_it_is_no_part_of_it(dev: Developer, tmp_path: Path, prefix: str) -> None:
    app = write(
        tmp_path / "app",
        {
            "Cargo.toml": f'{MANIFEST.format("app")}[dependencies]\nmac = {{ path = "mac" }}\n',
            "src/main.rs": 'fn main() { println!("{}", mac::said!()); }',
            "mac/Cargo.toml": f"{MANIFEST.format('mac')}[lib]\nproc-macro = true\n",
            "mac/src/lib.rs": READS,
        },
    )
    (units,) = built(dev, prefix, write(tmp_path / "more", OTHERS), app)
    reasons = {str(unit["crate"]): unit["reason"] for unit in units}
    assert reasons["mac"] == "new: no cache had it"
    assert reasons["app"] == f"the compile reads {prefix}/said, which no key names"
