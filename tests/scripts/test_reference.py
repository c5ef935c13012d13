"""The pages that are made from the parsers: nothing goes in without a help text, nothing gets old."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from box import need

from rised.__main__ import parser as rised_parser
from riseml import parsing
from riseml.commands import COMMANDS
from scripts.reference import blocks, commands, daemon, man
from scripts.reference.__main__ import GENERATED, main

NAMES = [command.name for command in COMMANDS]
ROOT = Path(__file__).parents[2]


def parser(summary: str, **options: str | None) -> parsing.Parser:
    made = parsing.Parser(prog="riseml x", description=summary)
    for name, text in options.items():
        made.add_argument(f"--{name}", help=text, metavar="N")
    return made


@pytest.mark.parametrize("command", NAMES)
def test_every_command_and_option_tells_what_it_is(command: str) -> None:
    made, _ = parsing.build(command)
    assert commands.section(made).startswith(f"### riseml {command}\n\n```\nriseml {command}")
    assert made.epilog is not None
    assert "\n$ " not in f"\n{made.epilog}", "an example must be indented"


def test_every_flag_of_the_daemon_tells_what_it_is() -> None:
    assert all(text for _, text in commands.arguments(rised_parser()))
    assert "| `gpu-foreign-mem` | " in daemon.settings()
    assert "`" not in rised_parser().format_help(), "they are for Markdown"


def test_what_has_no_help_is_refused() -> None:
    with pytest.raises(commands.NoHelp, match="riseml x"):
        commands.section(parser(""))
    with pytest.raises(commands.NoHelp, match="riseml x: --tail N"):
        commands.section(parser("Do it.", lines="text", tail=None))


def test_a_command_as_markdown() -> None:
    made = parser("Do it, as `riseml kill` does.", tail="100%% | more")
    made.epilog = "See docs/daemon.md#which-job-is-next.\n\n    $ riseml x\n    done\n\n    again\n"
    assert commands.section(made) == (
        "### riseml x\n\n```\nriseml x [--tail N]\n```\n\n"
        "Do it, as [`riseml kill`](#riseml-kill) does.\n\n"
        "| option | meaning |\n| --- | --- |\n| `--tail N` | 100% \\| more |\n\n"
        "See [daemon.md](daemon.md#which-job-is-next).\n\n"
        "```console\n$ riseml x\ndone\n\nagain\n```"
    )


def test_usage_names_what_excludes_each_other_and_what_may_be_repeated() -> None:
    assert "[--once | -f]" in commands.usage(parsing.build("monitor")[0])
    assert commands.usage(parsing.build("rm")[0]) == "riseml rm URI [URI ...] [-r] [--json]"
    assert commands.usage(parsing.build("kill")[0]) == "riseml kill [ID ...] [-f] [--json]"


def test_a_block_is_replaced_and_nothing_else() -> None:
    page = "a\n<!-- x: made by make docs -->\nold\n<!-- x: end -->\nb\n"
    new = "a\n<!-- x: made by make docs -->\n\nnew\n\n<!-- x: end -->\nb\n"
    assert blocks.replace(page, "x", "new\n") == blocks.replace(new, "x", "new") == new
    for wrong in ("", page.replace("end", "and"), page * 2):
        with pytest.raises(blocks.NoSuchBlock):
            blocks.replace(wrong, "x", "new")


def test_markdown_as_roff() -> None:
    markdown = (
        "## In short\n\nA `--flag`, **bold**, [a link](#here), [daemon.md](daemon.md#x),\n"
        "[limits](daemon.md#limits), [remote.md](remote.md): it's…\n\n- one\n  more\n- two\n\n1. first\n\n"
        "| a | b | default |\n| --- | --- | --- |\n| `x\\|y` | text | 5 |\n\n"
        "```console\n.dot \\ 'quoted'\n\nend\n```\n"
    )
    assert man.roff(markdown).splitlines() == [
        ".SH IN SHORT",
        ".PP",
        "A \\fB\\-\\-flag\\fR, \\fBbold\\fR, a link, rised(8), limits (rised(8)), docs/remote.md: "
        "it\\(aqs...",
        ".IP \\(bu 4",
        "one more",
        ".IP \\(bu 4",
        "two",
        ".IP 1. 4",
        "first",
        ".TP",
        "\\fBx|y\\fR",
        "text (default: 5)",
        ".PP",
        ".in 11n",
        ".EX",
        "\\&.dot \\e \\(aqquoted\\(aq",
        "",
        "end",
        ".EE",
        ".in",
    ]


@pytest.mark.parametrize("page", [name for name in GENERATED if "/man/" in name])
def test_man_pages_are_shown_without_a_warning(page: str) -> None:
    need(shutil.which("groff") is not None, "groff, which shows man pages")
    argv = ["groff", "-man", "-Tutf8", "-ww", "-rLL=78n", str(ROOT / page)]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert done.stderr == b""
    text = re.sub(r".\x08", "", done.stdout.decode())  # bold is struck twice
    assert "SEE ALSO" in text
    assert "<!--" not in text
    assert text.isascii(), "man shows nothing for such a character where LANG is unset"
    assert "\\" not in text.replace("\\r", "")


def test_a_page_that_is_older_is_found_and_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    assert main(["--check"], tmp_path) == 0
    cli = tmp_path / "docs/cli.md"
    text = cli.read_text()
    cli.write_text(text.replace("only the last N lines of output", "older words"))
    (tmp_path / "docs/man/rised.8").unlink()
    assert main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err == "".join(
        f"{name} is older than what it is made from; run make docs\n"
        for name in ("docs/cli.md", "docs/man/rised.8")
    )
    assert main([], tmp_path) == main(["--check"], tmp_path) == 0
    assert cli.read_text() == text
