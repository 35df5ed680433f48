"""``vmcloud completion``: how to make the shell complete commands, options and names."""

from __future__ import annotations

import os
from pathlib import Path

import click

LINES = {
    "bash": ('eval "$(_VMCLOUD_COMPLETE=bash_source vmcloud)"', "~/.bashrc"),
    "zsh": ('eval "$(_VMCLOUD_COMPLETE=zsh_source vmcloud)"', "~/.zshrc"),
    "fish": ("_VMCLOUD_COMPLETE=fish_source vmcloud | source", "~/.config/fish/completions/vmcloud.fish"),
}


@click.command()
@click.argument("shell", type=click.Choice(list(LINES)), required=False)
def completion(shell: str | None) -> None:
    """Say how to switch on completion in SHELL (default: yours).

    Commands and options complete, and so do names of VEs, nodes, images and numbers of jobs, asked of the cloud.

    \b
    Examples:
      vmcloud completion
      vmcloud completion bash >> ~/.bashrc
    """
    mine = Path(os.environ.get("SHELL", "bash")).name
    name = shell or (mine if mine in LINES else "bash")
    line, place = LINES[name]
    click.echo(line)
    click.echo(f"Add this line to {place}, or type it now: vmcloud completion {name} >> {place}", err=True)
