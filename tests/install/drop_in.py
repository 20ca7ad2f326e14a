# SPDX-License-Identifier: MIT
"""Settings that a test has a unit run with besides its own."""

import contextlib
import pathlib


@contextlib.contextmanager
def drop_in(systemctl, unit, *settings):
    """They hold from the unit's next start. systemctl() is that of the systemd in question."""
    directory = pathlib.Path(f"/run/test-units/{unit}.d")
    directory.mkdir()
    path = directory / "test.conf"
    path.write_text("\n".join(["[Service]", *settings, ""]), encoding="utf-8")
    systemctl("daemon-reload")
    yield
    path.unlink()
    directory.rmdir()
    systemctl("daemon-reload")
