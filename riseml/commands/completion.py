"""Print what lets a shell complete commands, options and IDs, newest first.

For good:

    $ mkdir -p ~/.local/share/bash-completion/completions
    $ riseml completion bash > ~/.local/share/bash-completion/completions/riseml
    $ riseml completion zsh > ~/.zfunc/_riseml    # a directory of your $fpath
    $ riseml completion fish > ~/.config/fish/completions/riseml.fish

bash looks there if the package bash-completion is installed; make the other directories likewise.

For one session of bash or zsh: `eval "$(riseml completion bash)"`

IDs are asked of the daemon, if one answers at once; none is started for that.
"""

import argparse
import sys

from riseml.completion.scripts import SCRIPTS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=list(SCRIPTS), help="whose completion it is")


def run(args: argparse.Namespace) -> int:
    sys.stdout.write(SCRIPTS[args.shell])
    return 0
