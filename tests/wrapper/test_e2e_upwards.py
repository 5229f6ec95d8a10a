"""Macros that look for a file in each directory above, as sqlx's do for `.env`."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import Developer

from tests.wrapper.test_e2e_macros import LOCATE, built, workspace

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

UPWARDS = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let found = package().ancestors().find_map(|each| {
        std::fs::read_to_string(each.join(word(&input))).ok()
    });
    literal(found.unwrap_or("nothing".into()))
}
"""
AT_HOME = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let home: PathBuf = std::env::var("HOME").unwrap().into();
    literal(std::fs::read_to_string(home.join(word(&input))).unwrap_or("nothing".into()))
}
"""


def test_files_above_count_where_somebody_goes_upwards(dev: Developer, tmp_path: Path) -> None:
    here = workspace(tmp_path / "w", UPWARDS, ".a-setting")
    assert [built(dev, here) for _ in range(2)] == [("local", "nothing"), ("hit-local", "nothing")]
    deeper = workspace(tmp_path / "far" / "away" / "w", UPWARDS, ".a-setting")
    assert built(dev, deeper) == ("hit-local", "nothing")
    (tmp_path / ".a-setting").write_text("one")
    seen = [built(dev, checkout) for checkout in (here, here, deeper, deeper)]
    assert seen == [("local", "one"), ("hit-local", "one")] * 2
    (tmp_path / "far" / ".a-setting").write_text("two")
    assert built(dev, deeper) == ("local", "two")
    (deeper / ".a-setting").write_text("three")
    assert [built(dev, deeper) for _ in range(2)] == [("local", "three"), ("hit-local", "three")]
    (deeper / ".a-setting").unlink()
    assert built(dev, deeper) == ("hit-local", "two")


def test_what_is_no_file_or_a_link_on_the_way(dev: Developer, tmp_path: Path) -> None:
    """A directory of the name; and rustc asks for the names of all on the way to a source."""
    here = workspace(tmp_path / "app" / "src" / "w", UPWARDS, ".a-setting")
    (here / "src").mkdir()
    (tmp_path / "app" / ".a-setting").mkdir()
    assert [built(dev, here) for _ in range(2)] == [("local", "nothing"), ("hit-local", "nothing")]
    (tmp_path / ".a-setting").write_text("one")
    assert [built(dev, here) for _ in range(2)] == [("local", "one"), ("hit-local", "one")]
    (tmp_path / ".a-setting").rename(tmp_path / "one")
    (tmp_path / ".a-setting").symlink_to("one")
    assert built(dev, here) == ("local", "one"), "a link leads on"


def test_a_file_at_home_is_not_meant_wherever_home_is(dev: Developer, tmp_path: Path) -> None:
    """A checkout lies in HOME, as they do: the file is right above it."""
    dev.extra = {"HOME": str(tmp_path), "RUSTUP_HOME": str(Path.home() / ".rustup")}
    here = workspace(tmp_path / "w", AT_HOME, ".a-setting")
    assert [built(dev, here) for _ in range(2)] == [("local", "nothing")] * 2
    (tmp_path / ".a-setting").write_text("one")
    assert built(dev, here) == ("local", "one")


def test_what_cargos_configuration_says(dev: Developer, tmp_path: Path) -> None:
    """The user's, in CARGO_HOME and above the workspace; most of it changes no answer."""
    here = workspace(tmp_path / "w", LOCATE, "# word")
    of_user, above = dev.directory / "cargo" / "config.toml", tmp_path / ".cargo" / "config.toml"
    for file in (of_user, above):
        file.parent.mkdir(exist_ok=True)
    of_user.write_text('[alias]\nbb = "build"\n')
    assert [built(dev, here) for _ in range(2)] == [("local", "nothing"), ("hit-local", "nothing")]
    of_user.write_text("[net]\nretry = 3\n[build]\njobs = 2\n")
    above.write_text("[term]\nverbose = false\n")
    assert built(dev, here) == ("hit-local", "nothing")
    above.write_text("[cargo-new]\nvcs = 'none'\n[future]\nx = 1\n")
    assert [built(dev, here) for _ in range(2)] == [("local", "nothing"), ("hit-local", "nothing")]
    of_user.write_text("[future]\nx = 1\n")
    assert built(dev, here)[0] == "local"
    said = dev.run("cargo", "distbuild", "why-miss", "app", cwd=here).stdout
    assert "    file of cargo's configuration changed\n" in said
    of_user.unlink()
    above.unlink()
    assert built(dev, here) == ("hit-local", "nothing")
