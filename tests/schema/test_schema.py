# SPDX-License-Identifier: MIT
"""The schemas are sound, the examples fit them, and both say what the core says."""

import json
import os
import subprocess

import jsonschema
import pytest

from schemas import EXAMPLES, SCHEMAS, closed, load, parts, validator

PROBE = os.environ.get("CORE_PROBE")

needs_probe = pytest.mark.skipif(not PROBE, reason="CORE_PROBE is not set: run by meson test")


def probe(*args):
    return subprocess.run([PROBE, *args], capture_output=True, text=True, timeout=30, check=False)


NAMES = sorted(path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.schema.json"))


def test_all_schemas_are_there():
    assert NAMES == ["config", "ctl-attach", "ctl-config", "ctl-detach", "ctl-doctor", "ctl-error", "ctl-events", "ctl-explain", "ctl-map", "ctl-mode",
                     "ctl-netns", "ctl-reload", "ctl-resync", "ctl-stats", "ctl-tunnels", "ctl-version", "status"]


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_valid(name):
    jsonschema.Draft202012Validator.check_schema(load(SCHEMAS / f"{name}.schema.json"))


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_described(name):
    schema = load(SCHEMAS / f"{name}.schema.json")
    assert schema["title"] and schema["description"]
    for where, part in parts(schema):
        for field, sub in part.get("properties", {}).items():
            assert sub.get("description"), f"{where}: {field} has no description"


@pytest.mark.parametrize("name", NAMES)
def test_required_fields_exist_and_released_objects_may_grow(name):
    schema = load(SCHEMAS / f"{name}.schema.json")
    for where, part in parts(schema):
        if "properties" not in part:
            continue
        assert set(part.get("required", ())) <= set(part["properties"]), where
        assert part["additionalProperties"] is (name != "config"), where


@pytest.mark.parametrize("name", NAMES)
def test_references_resolve(name):
    check = validator(name)
    for where, part in parts(check.schema):
        if "$ref" in part:
            _url, target = check.resolver.resolve(part["$ref"])
            assert isinstance(target, dict), where


def test_every_example_has_a_schema():
    assert sorted(path.name for path in EXAMPLES.iterdir()) == [
        "config-full.json", "config-minimal.json", "status-minimal.json", "status.json"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_example_fits(path):
    validator(path.stem.split("-")[0], closed).validate(load(path))


def without_version(document):
    assert document["agent"].pop("version")
    return document


@needs_probe
@pytest.mark.parametrize("name", ["status", "status-minimal"])
def test_status_of_the_core_fits(name):
    """Each field that the core writes is described, each that is required is written."""
    document = json.loads(probe(name).stdout)
    validator("status", closed).validate(document)


@needs_probe
@pytest.mark.parametrize("name", ["status", "status-minimal"])
def test_status_example_is_what_the_core_writes(name):
    """Else: tests/schema/core_probe NAME > schema/examples/NAME.json, in the build directory."""
    assert without_version(json.loads(probe(name).stdout)) == without_version(load(EXAMPLES / f"{name}.json"))


def seen(schema, instance, resolver, found):
    """Notes which described fields of which object an instance really has."""
    if "$ref" in schema:
        seen(resolver.resolve(schema["$ref"])[1], instance, resolver, found)
    for sub in schema.get("anyOf", ()):
        seen(sub, instance, resolver, found)
    if isinstance(instance, dict):
        for field, sub in schema.get("properties", {}).items():
            if field in instance:
                found.add((id(schema), field))
                seen(sub, instance[field], resolver, found)
    if isinstance(instance, list) and "items" in schema:
        for item in instance:
            seen(schema["items"], item, resolver, found)


def test_status_example_shows_every_field():
    """So that whoever writes a reader against it misses nothing. `view` is not in the file."""
    check = validator("status")
    found = set()
    seen(check.schema, load(EXAMPLES / "status.json"), check.resolver, found)
    del check.schema["properties"]["view"]
    for where, part in parts(check.schema):
        missing = {field for field in part.get("properties", ()) if (id(part), field) not in found}
        assert not missing, f"{where}: {missing}"


def test_config_example_shows_every_key():
    check = validator("config")
    found = set()
    seen(check.schema, load(EXAMPLES / "config-full.json"), check.resolver, found)
    for where, part in parts(check.schema):
        missing = {field for field in part.get("properties", ()) if (id(part), field) not in found}
        assert not missing, f"{where}: {missing}"


GOOD = [
    {},
    {"interfaces": []},
    {"interfaces": ["a" * 15]},
    {"game_server_ip": "198.51.100.1"},
    {"game_server_ip": "223.255.255.255"},
    {"mode": "tunnel", "max_entries": 16, "resync_interval": 1},
    {"max_entries": 1048576, "resync_interval": 86400},
    {"rules": []},
    {"rules": [{"match": {}, "set": {}}]},
    {"rules": [{"match": {"remote": "0.0.0.0/0", "local": "10.0.0.1"}, "set": {"game_server_ip": "remote"}}]},
    {"rules": [{"match": {"netns": "\u00e4*", "ifname": "?"}, "set": {"mode": "shadow"}, "comment": ""}]},
    {"$schema": "anything"},
    {"allowed_game_server_ips": []},
    {"allowed_game_server_ips": ["203.0.113.0/24", "198.51.100.1"]},
    {"limits": {}},
    {"limits": {"namespaces": 16384, "tunnels_per_namespace": 16384, "addresses_per_namespace": 65536}},
    {"limits": {"namespaces": 1, "tunnels_per_namespace": 1, "addresses_per_namespace": 1}},
    {"rules": [{"match": {"label": "podman-*"}, "set": {"trust": True}}]},
    {"rules": [{"match": {"netns": "a", "remote": "192.0.2.0/24", "ifname": "x"}, "set": {"trust": True}}]},
    {"rules": [{"match": {}, "set": {"trust": False, "mode": "tunnel"}}]},
    {"rules": [{"match": {"netns": "a", "label": "b"}, "set": {"trust": False}}]},
    {"offload_guard": "auto"},
    {"offload_guard": "on"},
    {"offload_guard": "off"},
]

BAD = [
    [],
    None,
    {"interface": "eth0"},
    {"interfaces": "eth0"},
    {"interfaces": [""]},
    {"interfaces": ["a" * 16]},
    {"interfaces": [1]},
    {"interfaces": ["eth0"] * 17},
    {"game_server_ip": "Auto"},
    {"game_server_ip": "127.0.0.1"},
    {"game_server_ip": "0.1.2.3"},
    {"game_server_ip": "224.0.0.1"},
    {"game_server_ip": "255.255.255.255"},
    {"game_server_ip": "1.2.3"},
    {"game_server_ip": "1.2.3.4/32"},
    {"game_server_ip": "1.2.3.256"},
    {"game_server_ip": "01.2.3.4"},
    {"game_server_ip": None},
    {"mode": "drain"},
    {"mode": ["direct"]},
    {"max_entries": 15},
    {"max_entries": 1048577},
    {"max_entries": "16"},
    {"max_entries": True},
    {"resync_interval": 0},
    {"resync_interval": 86401},
    {"resync_interval": 1.5},
    {"rules": {}},
    {"rules": [[]]},
    {"rules": [{"match": {}}]},
    {"rules": [{"set": {}}]},
    {"rules": [{"match": {}, "set": {}, "name": "x"}]},
    {"rules": [{"match": {"netns": ""}, "set": {}}]},
    {"rules": [{"match": {"netns": "a\0b"}, "set": {}}]},
    {"rules": [{"match": {"remote": "10.0.0.0/33"}, "set": {}}]},
    {"rules": [{"match": {"remote": "10.0.0.0/"}, "set": {}}]},
    {"rules": [{"match": {"remote": "10.0.0.0/ 8"}, "set": {}}]},
    {"rules": [{"match": {"remote": ""}, "set": {}}]},
    {"rules": [{"match": {"remote_address": "10.0.0.0/8"}, "set": {}}]},
    {"rules": [{"match": {}, "set": {"mode": "x"}}]},
    {"rules": [{"match": {}, "set": {"comment": "x"}}]},
    {"rules": [{"match": {}, "set": {}, "comment": 1}]},
    {"$schema": 1},
    {"allowed_game_server_ips": "203.0.113.0/24"},
    {"allowed_game_server_ips": ["public"]},
    {"allowed_game_server_ips": ["203.0.113.0/24"] * 4097},
    {"limits": []},
    {"limits": {"namespaces": 0}},
    {"limits": {"namespaces": 16385}},
    {"limits": {"tunnels_per_namespace": 16385}},
    {"limits": {"addresses_per_namespace": 65537}},
    {"limits": {"addresses_per_namespace": None}},
    {"limits": {"tunnels": 1}},
    {"trust": True},
    {"rules": [{"match": {"label": ""}, "set": {}}]},
    {"rules": [{"match": {"netns": "a"}, "set": {"trust": 1}}]},
    {"rules": [{"match": {}, "set": {"trust": True}}]},
    {"rules": [{"match": {"remote": "192.0.2.0/24"}, "set": {"trust": True}}]},
    {"rules": [{"match": {"netns": "a", "ifname": "x"}, "set": {"trust": False}}]},
    {"rules": [{"match": {"remote": "192.0.2.0/24"}, "set": {"trust": False}}]},
    {"rules": [{"match": {"local": "192.0.2.0/24"}, "set": {"trust": False}}]},
    {"offload_guard": "yes"},
    {"offload_guard": True},
    {"rules": [{"match": {}, "set": {"offload_guard": "on"}}]},
]

# What JSON Schema cannot say, or sees differently: the parser alone refuses it.
BAD_FOR_THE_PARSER = [
    '{"mode": "direct", "mode": "shadow"}',
    '{"rules": [{"match": {"remote": "10.0.0.1/8"}, "set": {}}]}',
    '{"max_entries": 16.0}',
    "{} {}",
    "{",
    "",
]


def parses(text, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    done = probe("config", str(path))
    assert done.returncode in (0, 1), done.stderr
    assert (done.returncode == 0) == (done.stdout == ""), "a refusal says why"
    return done.returncode == 0


@needs_probe
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("config-*.json")), ids=lambda path: path.stem)
def test_parser_takes_config_example(path, tmp_path):
    assert parses(path.read_text(encoding="utf-8"), tmp_path)


@needs_probe
@pytest.mark.parametrize("config", GOOD, ids=json.dumps)
def test_schema_and_parser_take(config, tmp_path):
    validator("config").validate(config)
    assert parses(json.dumps(config), tmp_path)


@needs_probe
@pytest.mark.parametrize("config", BAD, ids=lambda config: json.dumps(config)[:100])
def test_schema_and_parser_refuse(config, tmp_path):
    assert not validator("config").is_valid(config)
    assert not parses(json.dumps(config), tmp_path)


@needs_probe
@pytest.mark.parametrize("text", BAD_FOR_THE_PARSER)
def test_parser_refuses(text, tmp_path):
    assert not parses(text, tmp_path)
