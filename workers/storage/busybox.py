"""The image ``busybox``: a whole root file system of about a megabyte, made from this machine's static busybox.

The same busybox gives the same archive, byte for byte. Its init is busybox's own; two things differ from a naive image. No DHCP
client runs in the foreground (without a server it holds up the boot and every clean stop). And the shutdown action ends
processes itself and then halts at once, because busybox's built-in sequence sleeps two whole seconds.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from workers.drivers import tools

_APPLETS = frozenset(
    """
    [ ash awk basename cat chgrp chmod chown cp cut date dd df dirname dmesg du echo env expr false find free grep gunzip gzip
    halt head hexdump hostname id ifconfig init ip kill killall less ln logger ls md5sum mkdir mkfifo mknod mktemp more mount mv
    nc netstat nslookup od passwd pgrep pidof ping pkill poweroff printf ps pwd readlink realpath reboot rm rmdir route sed seq
    sh sha256sum sleep sort stat stty sync tail tar tee telnet test time timeout top touch tr true tty udhcpc umount uname uniq
    uptime vi watch wc wget which whoami xargs yes
    """.split()  # noqa: SIM905 - a list of ninety strings says the same in ninety lines
)

_FILES: dict[str, tuple[int, str]] = {
    "etc/inittab": (0o644, "::sysinit:/etc/init.d/rcS\nconsole::askfirst:/bin/sh\n::shutdown:/etc/init.d/rcK\n"),
    "etc/init.d/rcS": (
        0o755,
        """#!/bin/sh
mkdir -p /run /tmp
ip link set lo up
# An address given by the node stays; only a cable without any asks for one, in the background.
if ip link show eth0 >/dev/null 2>&1 && ! ip -4 addr show eth0 | grep -q inet; then
    ip link set eth0 up
    udhcpc -b -S -i eth0 -s /etc/udhcpc.script >/dev/null 2>&1 </dev/null &
fi
echo "vmcloud: $(hostname) ready" >/dev/console
""",
    ),
    "etc/init.d/rcK": (
        0o755,
        """#!/bin/sh
echo "vmcloud: $(hostname) halts" >/dev/console
kill -TERM -1
n=0
while [ $n -lt 25 ]; do
    set -- /proc/[0-9]*
    [ $# -le 2 ] && break
    sleep 0.01
    n=$((n + 1))
done
exec poweroff -n -f
""",
    ),
    "etc/udhcpc.script": (
        0o755,
        """#!/bin/sh
case "$1" in
deconfig) ip addr flush dev "$interface" ;;
bound | renew)
    ip addr replace "$ip/${mask:-24}" dev "$interface"
    [ -z "$router" ] || ip route replace default via "${router%% *}"
    ;;
esac
""",
    ),
    "etc/passwd": (0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    "etc/group": (0o644, "root:x:0:\nnogroup:x:65534:\n"),
    "etc/shadow": (0o600, "root:*::0:99999:7:::\n"),
    "etc/hostname": (0o644, "busybox\n"),
    "etc/hosts": (0o644, "127.0.0.1 localhost\n::1 localhost\n"),
    "etc/resolv.conf": (0o644, ""),
}

_DIRECTORIES = {
    **dict.fromkeys(("bin", "dev", "etc", "etc/init.d", "mnt", "proc", "run", "sbin", "sys", "usr", "usr/bin", "var"), 0o755),
    **dict.fromkeys(("var/lib", "var/log"), 0o755),
    "root": 0o700,
    "tmp": 0o1777,
}


def build_busybox(target: Path) -> None:
    """Write the image's archive (plain tar) to ``target``. Raises :class:`~workers.drivers.base.Unsupported` without busybox."""
    program = Path(tools.require("busybox", operation="image build", package="busybox-static"))
    done = tools.run([str(program), "--list"], operation="image build", timeout=10)
    known = set(done.stdout.split())
    temporary = target.with_name(f".{target.name}.new")
    with temporary.open("wb") as raw, tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode in sorted(_DIRECTORIES.items()):
            tar.addfile(_member(name, tarfile.DIRTYPE, mode))
        _add(tar, "bin/busybox", 0o755, program.read_bytes())
        for name, (mode, text) in sorted(_FILES.items()):
            _add(tar, name, mode, text.encode())
        for applet in sorted(known & _APPLETS):
            tar.addfile(_member(f"bin/{applet}", tarfile.SYMTYPE, 0o777, "busybox"))
        tar.addfile(_member("sbin/init", tarfile.SYMTYPE, 0o777, "../bin/busybox"))
        raw.flush()
        os.fsync(raw.fileno())
    temporary.replace(target)


def _member(name: str, kind: bytes, mode: int, link: str = "") -> tarfile.TarInfo:
    """A member that depends on nothing but its arguments: owner root, time zero."""
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname = kind, mode, link
    return member


def _add(tar: tarfile.TarFile, name: str, mode: int, content: bytes) -> None:
    member = _member(name, tarfile.REGTYPE, mode)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
