# SPDX-License-Identifier: MIT
"""Nothing that a released version promised is taken back, within one schema_version; more is welcome."""

import copy

import pytest

from released import RELEASED, promises
from schemas import load

FILES = sorted(RELEASED.glob("*.json"))


def broken(old, new):
    """What of the promises `old` does not hold in `new`, a line each."""
    found = []
    for name, properties in old["schemas"].items():
        present = new["schemas"].get(name)
        if present is None:
            found.append(f"{name}: the schema is gone")
            continue
        for where, was in properties.items():
            found += [f"{name}: {where}{problem}" for problem in broken_property(was, present.get(where), name == "config")]
    return found + broken_interface(old["interface"], new["interface"])


def broken_property(was, now, is_input):
    if now is None:
        return [" is gone"]
    problems = []
    # A reader copes with the types that he knows; a writer may go on writing them.
    lost = set(was["types"]) - set(now["types"]) if is_input else set(was["types"]) ^ set(now["types"])
    if lost:
        problems.append(f": types were {was['types']}, are {now['types']}")
    if was["required"] and not now["required"] and not is_input:
        problems.append(": is not always there any more")
    if is_input and now["required"] and not was["required"]:
        problems.append(": must be there now")
    gone = [value for value in was.get("values", []) if value not in now.get("values", [value])]
    if gone:
        problems.append(f": values {gone} are gone")
    return problems


def broken_interface(old, new):
    found = []
    for name, was in old["methods"].items():
        now = new["methods"].get(name)
        if now is None:
            found.append(f"method {name} is gone")
            continue
        found += [f"method {name}: {field} is gone or of another type" for part in ("takes", "gives")
                  for field, kind in was[part].items() if now[part].get(field) != kind]
        found += [f"method {name}: {field} must be given now" for field, kind in now["takes"].items()
                  if field not in was["takes"] and not kind.startswith("?")]
    found += [f"error {name} is gone or changed" for name, fields in old["errors"].items()
              if not fields.items() <= new["errors"].get(name, {}).items() or name not in new["errors"]]
    found += [f"type {name} lost a value" for name, values in old["types"].items()
              if not set(values) <= set(new["types"].get(name, []))]
    return found


def test_there_is_a_release():
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_was_released_still_holds(path):
    assert broken(load(path), promises()) == []


def spoil_removed(new):
    del new["schemas"]["status"]["tunnels[].remote"]


def spoil_type(new):
    new["schemas"]["status"]["agent.pid"]["types"] = ["string"]


def spoil_null(new):
    new["schemas"]["status"]["agent.pid"]["types"] = ["integer", "null"]


def spoil_optional(new):
    new["schemas"]["ctl-error"]["error.code"]["required"] = False


def spoil_value(new):
    new["schemas"]["status"]["tunnels[].state"]["values"].remove("conflict")


def spoil_schema(new):
    del new["schemas"]["ctl-events"]


def spoil_config(new):
    new["schemas"]["config"]["mode"]["required"] = True


def spoil_method(new):
    del new["interface"]["methods"]["Resync"]


def spoil_parameter(new):
    new["interface"]["methods"]["Resync"]["takes"]["why"] = "string"


def spoil_reply(new):
    del new["interface"]["methods"]["Reload"]["gives"]["config"]


def spoil_error(new):
    del new["interface"]["errors"]["Busy"]


@pytest.mark.parametrize("spoil", [value for name, value in sorted(globals().items()) if name.startswith("spoil_")],
                         ids=lambda spoil: spoil.__name__)
def test_each_breach_is_seen(spoil):
    old, new = promises(), copy.deepcopy(promises())
    assert broken(old, new) == []
    spoil(new)
    assert len(broken(old, new)) == 1


def test_additions_are_none():
    old, new = promises(), copy.deepcopy(promises())
    new["schemas"]["status"]["agent.new"] = {"types": ["string"], "required": True}
    new["schemas"]["status"]["tunnels[].state"]["values"].append("new")
    new["schemas"]["ctl-new"] = {"x": {"types": ["string"], "required": True}}
    new["schemas"]["config"]["new"] = {"types": ["string"], "required": False}
    new["interface"]["methods"]["New"] = {"takes": {"x": "string"}, "gives": {}}
    new["interface"]["methods"]["Resync"]["takes"]["why"] = "?string"
    new["interface"]["methods"]["Resync"]["gives"]["passes"] = "int"
    new["interface"]["errors"]["New"] = {}
    new["interface"]["types"]["Mode"].append("new")
    assert broken(old, new) == []
