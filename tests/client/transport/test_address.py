"""Addresses of daemons: what they mean, and that none of them is anything else to ssh or to a shell."""

import os
import subprocess
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml.ssh.remote import command
from riseml.transport.address import SshAddress, parse
from riseml_proto.errors import InvalidInput

FORBIDDEN = set("'\"`$\\;&<>|(){} \t\n\x00\x7f")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///srv/a%20b.sock", "/srv/a b.sock"),
        ("ssh://gpu-box", SshAddress("gpu-box")),
        ("ssh://gpu-box/", SshAddress("gpu-box")),
        ("ssh://paul@gpu-box:2022", SshAddress("gpu-box", "paul", 2022)),
        ("ssh://gpu-box/run/a%20b.sock", SshAddress("gpu-box", socket="/run/a b.sock")),
        ("ssh://paul%40example.org@box", SshAddress("box", "paul@example.org")),
        ("ssh://paul@example.org@box", SshAddress("box", "paul@example.org")),
        ("ssh://DOMAIN\\paul@box", SshAddress("box", "DOMAIN\\paul")),
        ("ssh://[fe80::1%eth0]:22", SshAddress("fe80::1%eth0", port=22)),
        ("ssh://[::1]", SshAddress("::1")),
        ("ssh://bücher.example", SshAddress("bücher.example")),
    ],
)
def test_an_address_has_its_parts(text: str, address: str | SshAddress) -> None:
    assert parse(text) == address


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is no daemon's address; --host and RISEML_HOST take unix:///"),
        ("http://box", "is no daemon's address"),
        ("a b", "is no daemon's address; --host"),
        ("ssh:", "is no daemon's address; --host"),
        ("unix:", "is no daemon's address; --host"),
        ("-oProxyCommand=x", "is no daemon's address; --host"),
        ("ssh://", "'' is no name of a host"),
        ("ssh:///run/x.sock", "'' is no name of a host"),
        ("ssh://-oProxyCommand=x", "'-oProxyCommand=x' is no name of a host"),
        ("ssh://a b", "'a b' is no name of a host"),
        ("ssh://$(touch x)", "is no name of a host"),
        ("ssh://-oProxyCommand=x@box", "is no name of a user"),
        ("ssh://%2DoProxyCommand=x@box", "is no name of a user"),
        ("ssh://a%20b@box", "'a b' is no name of a user"),
        ("ssh://`x`@box", "is no name of a user"),
        ("ssh://@box", "'' is no name of a user"),
        ("ssh://paul:secret@box", "a password cannot stand there"),
        ("ssh://box:", "a number must follow the colon"),
        ("ssh://box:ssh", "'ssh' is no port"),
        ("ssh://box:0", "'0' is no port"),
        ("ssh://box:65536", "'65536' is no port"),
        ("ssh://::1", "an IPv6 address is written ssh://[::1]:22"),
        ("ssh://[::1", "an IPv6 address is written ssh://[::1]:22"),
        ("ssh://[::1]x", "an IPv6 address is written ssh://[::1]:22"),
        ("ssh://box/a%0Ab", "its path holds a control character"),
    ],
)
def test_what_is_no_address_is_told_with_the_way_to_write_one(text: str, error: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert error in str(caught.value)
    assert "ssh://[user@]host[:port][/path/of/its/socket]" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("gpu-box", "ssh://gpu-box"),
        ("paul@gpu-box:2022", "ssh://paul@gpu-box:2022"),
        ("ssh:gpu-box", "ssh://gpu-box"),
        ("ssh:/paul@gpu-box", "ssh://paul@gpu-box"),
        ("/run/x.sock", "unix:///run/x.sock"),
        ("/a b/s", "unix:///a%20b/s"),
        ("~/s", f"unix://{os.path.expanduser('~')}/s"),
        ("./s", f"unix://{quote(os.getcwd())}/s"),
        ("unix:/run/x.sock", "unix:///run/x.sock"),
        ("unix://run/x.sock", "unix:///run/x.sock"),
    ],
)
def test_what_lacks_its_scheme_is_asked_back_with_it(text: str, meant: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert str(caught.value) == f"{text!r} is no daemon's address; did you mean {meant}?"
    parse(meant)


@given(st.text(), st.text(), st.integers())
def test_nothing_in_an_address_is_an_option_or_a_shells_business(
    user: str, host: str, port: int
) -> None:
    for text in (f"ssh://{host}", f"ssh://{user}@{host}", f"ssh://{quote(user)}@{host}:{port}"):
        try:
            address = parse(text)
        except InvalidInput:
            continue
        assert isinstance(address, SshAddress)
        for part in filter(None, (address.host, address.user)):
            assert not part.startswith("-")
            assert not (FORBIDDEN - set("$\\")) & {*part}
        assert not FORBIDDEN & {*address.host}


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_the_command_for_any_path_is_safe_within_quotes_of_any_shell(path: str) -> None:
    for text in (command(f"/{path}"), command(f"/{path}", "env A=1 ~/venv/bin/riseml")):
        assert text.startswith("sh -c '")
        assert text.endswith("'")
        assert not {*"'\\!\n"} & {*text[len("sh -c '") : -1]}


def test_the_command_hands_the_path_over_as_it_is(tmp_path: object) -> None:
    directory = f"{tmp_path}/bin"
    os.mkdir(directory)
    with open(f"{directory}/riseml", "w") as file:
        file.write('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    os.chmod(f"{directory}/riseml", 0o755)
    env = {"PATH": f"{directory}:{os.environ['PATH']}", "HOME": "/"}
    path = "/a b/$HOME/`x`/ü/%41'\""
    done = subprocess.run(
        ["/bin/sh", "-c", command(path)], env=env, capture_output=True, text=True, check=True
    )
    pipe, host, url = done.stdout.splitlines()
    assert (pipe, host) == ("pipe", "--host")
    assert parse(url) == path
