# SPDX-License-Identifier: MIT
"""What the tests asked progrun and what it answered, so that another kernel can be asked the same.

Making packets with scapy and talking about each of them takes nearly all of the tests' time, far more in an emulated machine,
and the packets are the same on every kernel. So the run on this machine's kernel, judged by the oracle, writes
down all questions and answers; in the VM progrun gets the questions in one go, and its answers must be the same, byte
for byte. Tests that use real sockets, or whose answer may differ, are run there as they are.

    IPIPDIRECT_RECORD=FILE pytest tests/bpf     writes FILE, if all tests were run and passed
    IPIPDIRECT_REPLAY=FILE pytest tests/bpf     puts it to this kernel; without FILE all tests are run

The first line of FILE is a hash of all that the answers depend on. Below, each test has a line "= FILE::TEST", and
for each exchange a line "> QUESTION" and one "< ANSWER".
"""

import hashlib
import os
import pathlib
import subprocess
import tempfile

import datapath

HERE = pathlib.Path(__file__).parent
TEST_MAX = 4000  # exchanges of one test that are kept: all but the random packets' are far below


def fingerprint():
    """Of the tests, and of the program under test with them."""
    state = hashlib.sha256()
    for path in (*sorted(HERE.glob("*.py")), pathlib.Path(datapath.PROGRUN)):
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


class Recorder:
    def __init__(self, path):
        self.path, self.part = path, f"{path}.part"
        self.file = open(self.part, "w", encoding="ascii")
        self.left = 0
        self.file.write(fingerprint() + "\n")

    def begin(self, name):
        """Without a name the test is not written down."""
        self.left = TEST_MAX if name else 0
        if name:
            self.file.write(f"= {name}\n")

    def note(self, question, answer):
        if self.left > 0:
            self.left -= 1
            self.file.write(f"> {question}\n< {answer}")

    def close(self, keep):
        self.file.close()
        if keep:
            os.rename(self.part, self.path)
        else:
            os.unlink(self.part)


def fits(path):
    """Whether there is a transcript of these very tests."""
    try:
        with open(path, encoding="ascii") as file:
            return next(file).strip() == fingerprint()
    except FileNotFoundError:
        return False


def read(path):
    """[(test, question, answer)]"""
    exchanges, test, question = [], None, None
    with open(path, encoding="ascii") as file:
        next(file)
        for line in file:
            if line[0] == "=":
                test = line[2:-1]
            elif line[0] == ">":
                question = line[2:]
            else:
                exchanges.append((test, question, line[2:]))
    return exchanges


def replay(namespace, exchanges):
    """{file: [(test, question, answer, this kernel's answer)]}, only what differs; and how many were asked of each."""
    # Files: progrun answers line by line, and a reader of a pipe would be woken for each.
    with tempfile.TemporaryFile("w+") as asked, tempfile.TemporaryFile("w+") as told:
        asked.writelines(question for _, question, _ in exchanges)
        asked.seek(0)
        # It may end early; then what it did not answer differs.
        done = subprocess.run(namespace.command(datapath.PROGRUN), stdin=asked, stdout=told, check=False)
        told.seek(0)
        answers = told.readlines()
    answers += [f"nothing: status {done.returncode}"] * (len(exchanges) - len(answers))
    differing, counts = {}, {}
    for (test, question, expected), answer in zip(exchanges, answers):
        file = test.partition("::")[0]
        counts[file] = counts.get(file, 0) + 1
        if answer != expected:
            differing.setdefault(file, []).append((test, question, expected, answer))
    return differing, counts
