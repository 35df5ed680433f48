"""Hostile archives: whatever is in them, nothing outside the folder changes and the message says what is wrong."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import tarfile
from pathlib import Path

import pytest

from vmcloud.domain.errors import Invalid
from workers.storage.unpack import IdMap, Limits, _capability, extract

pytestmark = pytest.mark.unit

ME = IdMap(os.getuid(), 1)


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, size
    return info


def archive(path: Path, *members: tarfile.TarInfo, content: bytes = b"") -> Path:
    with tarfile.open(path, "w") as tar:
        for each in members:
            tar.addfile(each, io.BytesIO(content.ljust(each.size, b"x")))
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def unpack(source: Path, into: Path, limits: Limits | None = None) -> None:
    extract(source, into, IdMap(0, 65536) if os.getuid() == 0 else ME, limits or Limits())


def test_a_plain_image_is_unpacked_with_modes_and_links(tmp_path: Path, into: Path):
    source = archive(
        tmp_path / "a.tar",
        member("./", tarfile.DIRTYPE, mode=0o755),
        member("./bin", tarfile.DIRTYPE, mode=0o555),
        member("./bin/tool", mode=0o4755, size=3),
        member("./bin/same", tarfile.LNKTYPE, link="./bin/tool"),
        member("./sbin", tarfile.SYMTYPE, link="/bin"),
        member("./dev/console", tarfile.CHRTYPE),
    )
    unpack(source, into)
    assert (into / "bin/tool").stat().st_mode & 0o7777 == 0o4755
    assert (into / "bin").stat().st_mode & 0o7777 == 0o555
    assert (into / "bin/same").samefile(into / "bin/tool")
    assert (into / "sbin").readlink() == Path("/bin")
    assert not (into / "dev" / "console").exists()


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_packed_archives_are_taken(tmp_path: Path, into: Path, pack):
    plain = archive(tmp_path / "a.tar", member("file", size=5))
    (tmp_path / "packed").write_bytes(pack(plain.read_bytes()))
    unpack(tmp_path / "packed", into)
    assert (into / "file").read_bytes() == b"xxxxx"


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "a/../../outside", "a/.."])
def test_names_that_leave_the_image_are_refused(tmp_path: Path, into: Path, name: str):
    with pytest.raises(Invalid, match="image"):
        unpack(archive(tmp_path / "a.tar", member(name, size=1)), into)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "into"]


def test_a_file_put_through_a_symbolic_link_is_refused(tmp_path: Path, into: Path):
    victim = tmp_path / "victim"
    victim.mkdir()
    source = archive(tmp_path / "a.tar", member("out", tarfile.SYMTYPE, link=str(victim)), member("out/file", size=1))
    with pytest.raises(Invalid, match="no directory"):
        unpack(source, into)
    assert list(victim.iterdir()) == []


def test_a_file_over_a_symbolic_link_replaces_the_link(tmp_path: Path, into: Path):
    victim = tmp_path / "victim"
    victim.write_text("safe")
    unpack(archive(tmp_path / "a.tar", member("f", tarfile.SYMTYPE, link=str(victim)), member("f", size=1)), into)
    assert victim.read_text() == "safe"
    assert not (into / "f").is_symlink()


@pytest.mark.parametrize("target", ["/etc/passwd", "../victim", "link/victim", "missing", ""])
def test_hard_links_to_anything_but_files_of_the_image_are_refused(tmp_path: Path, into: Path, target: str):
    (tmp_path / "victim").write_text("safe")
    source = archive(
        tmp_path / "a.tar", member("link", tarfile.SYMTYPE, link=str(tmp_path)), member("hard", tarfile.LNKTYPE, link=target)
    )
    with pytest.raises(Invalid):
        unpack(source, into)
    assert not (into / "hard").exists()


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, into: Path):
    source = archive(tmp_path / "a.tar", *[member(f"f{number}") for number in range(5)])
    with pytest.raises(Invalid, match="more than 4 files"):
        unpack(source, into, Limits(files=4))


def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path, into: Path):
    packed = tmp_path / "bomb.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.addfile(member("zeros", size=8 << 20), io.BytesIO(bytes(8 << 20)))
    with pytest.raises(Invalid, match="more than 1 MiB"):
        unpack(packed, into, Limits(size=1 << 20))
    assert not (into / "zeros").exists()


def test_a_sparse_bomb_counts_with_its_full_size(tmp_path: Path, into: Path):
    info = member("holes", size=0)
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(1 << 50),
        "GNU.sparse.map": "0,0",
    }
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    with pytest.raises(Invalid, match="MiB"):
        unpack(tmp_path / "a.tar", into)


@pytest.mark.parametrize("content", [b"", b"not a tar archive" * 100, gzip.compress(b"nothing"), b"\x1f\x8b\x08garbage"])
def test_what_is_no_archive_is_refused_in_words(tmp_path: Path, into: Path, content: bytes):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(Invalid, match=r"archive"):
        unpack(tmp_path / "a", into)


def test_a_truncated_archive_is_refused(tmp_path: Path, into: Path):
    source = archive(tmp_path / "a.tar", member("file", size=100_000))
    (tmp_path / "cut").write_bytes(gzip.compress(source.read_bytes())[:100])
    with pytest.raises(Invalid):
        unpack(tmp_path / "cut", into)
    (tmp_path / "short").write_bytes(source.read_bytes()[:50_000])
    with pytest.raises(Invalid):
        unpack(tmp_path / "short", into)


def test_an_id_outside_the_map_is_refused():
    with pytest.raises(Invalid, match="70000"):
        IdMap(1000000, 65536).owner(70000)
    assert IdMap(1000000, 65536).owner(33) == 1000033


def test_a_file_capability_is_bound_to_the_guests_root():
    raw = bytes.fromhex("0100000200200000000000000000000000000000").decode("utf-8", "surrogateescape")
    assert _capability(raw, IdMap(1000000, 65536)) == bytes.fromhex("0100000300200000000000000000000000000000") + (
        1000000
    ).to_bytes(4, "little")
    assert _capability("rubbish", None) == b""


def test_the_sum_of_an_archive_is_stable(tmp_path: Path):
    from workers.drivers.tools import find
    from workers.storage.busybox import build_busybox

    if find("busybox") is None:
        pytest.fail("busybox-static is not installed: apt-get install busybox-static")
    sums = set()
    for name in ("a", "b"):
        build_busybox(tmp_path / name)
        sums.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(sums) == 1
