# SPDX-License-Identifier: MIT
"""gcc's and cppcheck's analysis of the whole source finds nothing but what `suppressions` explains."""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).parent
BUILD_DIR = pathlib.Path(os.environ["BUILD_DIR"])
PARTS = ("agent", "tools/ctl", "bpf")


def suppressions(tool):
    lines = (HERE / "suppressions").read_text().splitlines()
    split = [line.split(" ", 2) for line in lines if line and not line.startswith("#")]
    return [(path, text) for name, path, text in split if name == tool]


def judge(tool, findings):
    """Fails for findings that nobody explains and for explanations that nothing needs."""
    known = suppressions(tool)
    bad = [finding for finding in findings
           if not any(finding.startswith(path + ":") and text in finding for path, text in known)]
    assert not bad, "\n".join(bad)
    unused = [f"{path} {text}" for path, text in known
              if not any(finding.startswith(path + ":") and text in finding for finding in findings)]
    assert not unused, "no longer found: " + "\n".join(unused)


def analyze(command):
    done = subprocess.run(command, cwd=BUILD_DIR, capture_output=True, text=True, timeout=900,
                          env=os.environ | {"LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stderr
    findings = []
    for line in done.stderr.splitlines():
        if found := re.match(r"(.*?):(\d+):\d+: warning: (.*)", line):
            path = os.path.relpath((BUILD_DIR / found[1]).resolve(), ROOT)
            findings.append(f"{path}:{found[2]}: {found[3]}")
    return findings


def gcc_commands():
    """How each source of the two programs is compiled, made into its analysis."""
    commands = {}
    for entry in json.loads((BUILD_DIR / "compile_commands.json").read_text()):
        path = os.path.relpath((BUILD_DIR / entry["file"]).resolve(), ROOT)
        if not path.startswith(("agent/", "tools/ctl/")):
            continue
        words = shlex.split(entry["command"])
        flags = [word for word in words[1:] if word.startswith(("-I", "-D", "-U", "-std="))
                 and "FORTIFY" not in word]
        commands[path] = ["gcc", *flags, "-O1", "-fanalyzer", "-fdiagnostics-plain-output", "-c", "-o",
                          "/dev/null", entry["file"]]
    return commands


def cppcheck(*paths):
    # readdirCalled: readdir_r(3) itself says to use readdir(), which glibc guards by DIR.
    # resourceLeak, memleak: it knows no cleanup attribute; gcc does, and looks for the same.
    # arithOperationsOnVoidPointer: gnu11 defines it, and packets are walked so.
    # getgrnamCalled: no program here has threads.
    ignored = ("readdirCalled", "getgrnamCalled", "resourceLeak", "memleak", "arithOperationsOnVoidPointer")
    done = subprocess.run(
        ["cppcheck", f"-j{os.cpu_count()}", "--quiet", "--enable=warning,portability", "--std=c11",
         "--library=posix", *(f"--suppress={name}" for name in ignored), f"-I{ROOT}", f"-I{BUILD_DIR}", f"--include={HERE}/macros.h",
         "--template={file}:{line}: {id}: {message}", "--error-exitcode=3", *paths],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    return done.stderr.splitlines()


def test_gcc_sees_what_is_wrong():
    findings = analyze(["gcc", "-O1", "-fanalyzer", "-fdiagnostics-plain-output", "-c", "-o", "/dev/null",
                        str(HERE / "bad.c")])
    assert any("use after" in finding for finding in findings), findings


def test_cppcheck_sees_what_is_wrong():
    findings = cppcheck("tests/static/bad.c")
    assert any("arrayIndexOutOfBounds" in finding for finding in findings), findings


def test_gcc_finds_nothing():
    commands = gcc_commands()
    missing = {str(path.relative_to(ROOT)) for part in ("agent", "tools/ctl")
               for path in (ROOT / part).rglob("*.c")} - set(commands)
    assert not missing, f"not compiled, so not looked at: {missing}"
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(analyze, commands.values()))
    judge("fanalyzer", sorted({finding for findings in found for finding in findings}))


def test_cppcheck_finds_nothing():
    judge("cppcheck", cppcheck(*PARTS))
