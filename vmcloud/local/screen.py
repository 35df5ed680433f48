"""What a person is shown at the end: ``python -m vmcloud.local.screen`` prints quickstart's closing screen."""

from __future__ import annotations

import json
import os
import sys

from vmcloud.config import Config

from . import directory, report
from .prepare import FIRST_LOGIN


def after_up(config: Config) -> str:
    """A few lines after ``up --detach``."""
    return "\n".join(
        [f"Web:       {config.web_url}", f"Login:     {login(config)}", f"Log:       {config.data / 'log' / 'vmcloud.log'}"]
    )


def closing(config: Config) -> str:
    """What runs, the addresses, the first login, what to type next."""
    found = report.collect(config)
    running = ", ".join(row.name for row in found.rows if row.state == "ready") or "nothing"
    return "\n".join(
        [
            "",
            f"Your cloud runs: {running}.",
            f"  Web        {config.web_url}",
            f"  Login      {login(config)}",
            f"  API        {config.web_url}/api/v1/docs",
            f"  Directory  {config.directory_uri}  base {config.suffix}",
            f"             {directory.ldapi(config)}  (root of this machine is an administrator)",
            "",
            "Next:",
            "  vmcloud ve list",
            "  vmcloud ve create web-1 --image busybox --wait",
            '  eval "$(vmcloud env)" && ldapsearch -Q -LLL "(objectClass=vmcVE)"',
        ]
    )


def login(config: Config) -> str:
    """The first login, shown once (its file is then removed); afterwards how to set a new password."""
    file = config.data / "secrets" / FIRST_LOGIN
    if os.geteuid() == 0 and file.exists():
        first = json.loads(file.read_text())
        file.unlink()
        return f"{first['username']} / {first['password']}  (shown this once; change it with: vmcloud passwd)"
    return "admin, with the password shown at the first start (a new one: vmcloud passwd --generate)"


if __name__ == "__main__":
    print(closing(Config.load()))
    sys.exit(0)
