# SPDX-License-Identifier: MIT
"""pytest --tap: the results as TAP 13 on stdout, one line a test, and nothing else there.

Meson then counts each test, and whoever reads a cut stream sees that it was cut: the plan comes first.
"""

import os
import sys

import pytest


def pytest_addoption(parser):
    parser.addoption("--tap", action="store_true", help="report as TAP 13 on stdout")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if not config.getoption("tap"):
        return
    # One broken file must not hide the results of the others.
    config.option.continue_on_collection_errors = True
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(Tap(), "tap")


def test_name(nodeid):
    """`vm/test_boot.py::test_ipip[x]` is `boot::ipip[x]`."""
    path, _, name = nodeid.partition("::")
    suite = os.path.basename(path).removesuffix(".py").removeprefix("test_")
    words = [word.removeprefix("test_") for word in name.split("::") if word]
    return "::".join([suite, *words]).replace("#", "_")  # in TAP a # begins a directive


class Tap:
    def __init__(self):
        # Our own copy of stdout. Whatever else would print there is sent to stderr.
        sys.stdout.flush()
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        os.dup2(2, 1)
        self.number = 0
        self.broken = []
        self.reports = {}

    def line(self, text):
        print(text, file=self.out, flush=True)

    def comment(self, text):
        for line in text.splitlines():
            self.line(f"# {line}".rstrip())

    def result(self, ok, nodeid, directive=""):
        self.number += 1
        self.line(f"{'ok' if ok else 'not ok'} {self.number} - {test_name(nodeid)}{directive}")

    def details(self, reports):
        for report in reports:
            self.comment(report.longreprtext)
            for title, text in report.sections:
                self.comment(f"---- {title}")
                self.comment(text)

    def pytest_collectreport(self, report):
        if report.failed or report.skipped:
            self.broken.append(report)

    def pytest_collection_finish(self, session):
        self.line("TAP version 13")
        self.line(f"1..{len(session.items) + len(self.broken)}")
        for report in self.broken:
            if report.skipped:
                self.result(True, report.nodeid, f" # SKIP {skip_reason(report)}")
            else:
                self.result(False, report.nodeid)
                self.details([report])

    def pytest_runtest_logreport(self, report):
        self.reports.setdefault(report.nodeid, []).append(report)

    def pytest_runtest_logfinish(self, nodeid):
        reports = self.reports.pop(nodeid, [])
        failed = [report for report in reports if report.failed]
        skipped = [report for report in reports if report.skipped]
        if failed:
            self.result(False, nodeid)
            # The last holds what the test printed, all phases of it.
            self.details(failed)
        elif not reports:
            self.result(False, nodeid)
            self.comment("pytest reported nothing about this test")
        elif skipped and hasattr(skipped[0], "wasxfail"):
            self.result(False, nodeid, f" # TODO {skipped[0].wasxfail}".rstrip())
        elif skipped:
            self.result(True, nodeid, f" # SKIP {skip_reason(skipped[0])}")
        else:
            self.result(True, nodeid)

    def pytest_internalerror(self, excrepr):
        self.comment(str(excrepr))
        self.line("Bail out! pytest itself failed")

    def pytest_keyboard_interrupt(self):
        self.line("Bail out! interrupted")


def skip_reason(report):
    """Why a test was skipped, on one line."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return " ".join(reason.removeprefix("Skipped: ").split())
