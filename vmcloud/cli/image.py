"""``vmcloud image``: template root file systems."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from vmcloud.domain.vocabulary import Kind

from .common import Name, act, action_options, client, each, names, output_option
from .errors import CliError
from .follow import Job, Line
from .output import Column, Shape, show_list, size
from .rest import Client, segment
from .verbs import OfImage

IMAGES = Shape(
    (
        Column("NAME", lambda image: image["name"]),
        Column("KIND", lambda image: image["kind"]),
        Column("SIZE", lambda image: size(image["size"])),
        Column("SHA256", lambda image: image["sha256"][:12], narrow=True),
        Column("SHA256", lambda image: image["sha256"], wide=True),
        Column("DESCRIPTION", lambda image: image["description"], flexible=True),
    )
)
CHUNK = 1 << 20
UPLOAD_TIMEOUT = 600.0


@click.group(cls=OfImage)
def group() -> None:
    """Images: what VEs are made from."""


@group.command("list")
@output_option()
def list_(form: str) -> None:
    """List images.

    \b
    Examples:
      vmcloud image list
      vmcloud image list -o json
    """
    show_list(list(client().every("/images")), IMAGES, form)


@group.command()
@click.argument("names", nargs=-1, required=True, type=Name(), metavar="NAME...", shell_complete=names("/images"))
@output_option()
def show(names: tuple[str, ...], form: str) -> None:
    """Show images with all their fields.

    \b
    Examples:
      vmcloud image show busybox
    """
    each(names, lambda api, name: api.get("/images" + segment(name)), IMAGES, form)


@group.command("import")
@click.argument("name")
@click.argument("file", type=click.Path(allow_dash=True, path_type=str))
@click.option(
    "-k", "--kind", type=click.Choice([kind.value for kind in Kind]), default="lxc", show_default=True, help="For which kind."
)
@click.option("--description", metavar="TEXT", default="", help="Free text.")
@action_options
def import_(
    name: str, file: str, kind: str, description: str, form: str, wait: bool, timeout: float | None, key: str | None
) -> None:
    """Import FILE (`-`: standard input), a tar archive of a root file system, as image NAME.

    It may be compressed by gzip, bzip2 or xz.

    \b
    Examples:
      vmcloud image import busybox busybox.tar.gz --wait
      tar -C rootfs -cz . | vmcloud image import mine - --description "by hand"
    """
    line = Line()
    begun: list[BinaryIO] = []

    def content() -> Iterator[bytes]:
        if begun and file == "-":
            raise CliError.say("the connection was lost while standard input was sent", todo="Run the command again.")
        stream = _open(file)
        begun.append(stream)
        whole, sent = (0 if file == "-" else Path(file).stat().st_size), 0
        while chunk := stream.read(CHUNK):
            yield chunk
            sent += len(chunk)
            if line.live:
                line.show(f"sending {name}: {f'{100 * sent // whole} %' if whole else size(sent)}")
        line.clear()

    def ask(api: Client, operand: str, its_key: str) -> Job:
        query = {"kind": kind, **({"description": description} if description else {})}
        path = "/images" + segment(operand)
        job: Job = api.request("PUT", path, query=query, body=content, key=its_key, timeout=UPLOAD_TIMEOUT)
        return job

    _open(file)
    try:
        act([name], ask, form=form, wait=wait, timeout=timeout, key=key)
    finally:
        line.clear()


def _open(file: str) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise CliError.say(f"{file} cannot be read", why=error.strerror or str(error)) from error
