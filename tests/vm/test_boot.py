# SPDX-License-Identifier: MIT
"""The VM is what the other tests here take it for."""

import json
import os
import subprocess


def run(*argv):
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE).stdout


def test_kernel_is_of_the_series():
    release = os.uname().release
    assert release.startswith(os.environ["KERNEL_SERIES"] + ".")
    assert release == os.environ["IPIPDIRECT_VM"]


def test_bpffs_is_mounted():
    assert run("stat", "-f", "-c", "%T", "/sys/fs/bpf").strip() == "bpf_fs"


def test_build_tree_is_visible():
    assert os.path.isfile(os.path.join(os.environ["BUILD_DIR"], "build.ninja"))


def test_host_files_are_safe(tmp_path):
    """What is written stays in memory: everything is an overlay, or a file system of the VM."""
    for path in (__file__, os.environ["BUILD_DIR"], tmp_path):
        assert run("stat", "-f", "-c", "%T", path).strip() == "overlayfs"


def test_ipip_device_in_a_namespace():
    run("ip", "netns", "add", "game")
    try:
        run("ip", "-n", "game", "link", "add", "name", "tunnel", "type", "ipip",
            "remote", "192.0.2.1", "local", "192.0.2.2")
        (link,) = json.loads(run("ip", "-n", "game", "-j", "-d", "link", "show", "dev", "tunnel"))
    finally:
        run("ip", "netns", "delete", "game")
    assert link["linkinfo"]["info_kind"] == "ipip"
    assert link["linkinfo"]["info_data"]["remote"] == "192.0.2.1"
    assert link["linkinfo"]["info_data"]["local"] == "192.0.2.2"
