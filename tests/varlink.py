# SPDX-License-Identifier: MIT
"""A Varlink client that knows an interface by nothing but its text (https://varlink.org/Interface-Definition)."""

import json
import re
import socket
import time


class Interface:
    def __init__(self, text):
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        self.name = re.search(r"^interface ([a-z][a-z0-9.-]*)$", "\n".join(lines), re.M).group(1)
        self.methods, self.errors, self.types = {}, {}, {}
        for line in lines:
            if match := re.fullmatch(r"method (\w+)\((.*)\) -> \((.*)\)", line):
                self.methods[match[1]] = fields(match[2]), fields(match[3])
            elif match := re.fullmatch(r"error (\w+) \((.*)\)", line):
                self.errors[match[1]] = fields(match[2])
            elif match := re.fullmatch(r"type (\w+) \((.*)\)", line):
                self.types[match[1]] = match[2].split(", ")
            else:
                assert not line or line.startswith("interface "), f"what is this? {line}"

    def check_value(self, kind, value):
        if kind.startswith("?"):
            return value is None or self.check_value(kind[1:], value)
        if kind.startswith("[]"):
            return isinstance(value, list) and all(self.check_value(kind[2:], item) for item in value)
        if kind in self.types:
            return value in self.types[kind]
        python = {"string": str, "bool": bool, "int": int, "object": dict}[kind]
        return isinstance(value, python) and (kind != "int" or not isinstance(value, bool))

    def check(self, expected, values):
        """Exactly the fields of the text, each of its type."""
        assert set(values) == set(expected), values
        for name, kind in expected.items():
            assert self.check_value(kind, values[name]), f"{name}: {kind} is {values[name]!r}"


def fields(text):
    return dict(item.split(": ") for item in text.split(", ") if item)


class Error(Exception):
    def __init__(self, name, parameters):
        super().__init__(f"{name} {parameters}")
        self.name, self.parameters = name, parameters


class Client:
    def __init__(self, path, seconds=60):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(seconds)
        self.socket.connect(path)
        self.buffer = b""
        self.interfaces = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def learn(self, name):
        service = self.raw("org.varlink.service.GetInterfaceDescription", {"interface": name})
        self.interfaces[name] = Interface(service["description"])
        return self.interfaces[name]

    def write(self, data):
        self.socket.sendall(data)

    def send(self, method, parameters=None, **flags):
        message = {"method": method, **flags}
        if parameters is not None:
            message["parameters"] = parameters
        self.write(json.dumps(message).encode() + b"\0")

    def receive(self):
        """The next message; None: closed."""
        while b"\0" not in self.buffer:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not self.buffer, "closed in the middle of a message"
                return None
            self.buffer += data
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def result(self):
        message = self.receive()
        assert message is not None, "closed"
        if "error" in message:
            raise Error(message["error"], message.get("parameters", {}))
        return message

    def raw(self, method, parameters=None, **flags):
        self.send(method, parameters, **flags)
        return self.result()["parameters"]

    def call(self, name, **parameters):
        """A method, named with its interface; parameters and reply are checked against the text."""
        interface, _, method = name.rpartition(".")
        text = self.interfaces.get(interface) or self.learn(interface)
        takes, gives = text.methods[method]
        text.check(takes, {**dict.fromkeys(takes), **parameters})
        try:
            reply = self.raw(name, parameters)
        except Error as error:
            known, _, which = error.name.rpartition(".")
            known = self.interfaces.get(known) or self.learn(known)
            known.check(known.errors[which], error.parameters)
            raise
        text.check(gives, reply)
        return reply

    def monitor(self):
        self.send("io.ipipdirect.Monitor", more=True)

    def event(self):
        message = self.result()
        assert message["continues"] is True
        return message["parameters"]["event"]

    def until(self, kind, wanted=lambda event: True, seconds=60):
        """All events up to the first of that type that is wanted, which is the last of the list."""
        deadline = time.monotonic() + seconds
        events = [self.event()]
        while events[-1]["type"] != kind or not wanted(events[-1]):
            assert time.monotonic() < deadline, f"no {kind}"
            events.append(self.event())
        return events
