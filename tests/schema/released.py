#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a released version promised to readers: every property of every schema with its type, and the
Varlink interface. `tests/schema/released.py VERSION` writes schema/released/VERSION.json, once, with
the release; test_released.py sees that nothing of it was taken back."""

import json
import pathlib
import sys

from schemas import SCHEMAS, load

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from varlink import Interface  # pylint: disable=wrong-import-position

RELEASED = SCHEMAS / "released"
COMBINED = ("anyOf", "oneOf", "allOf")


def resolve(schema, path):
    """The schema that is meant, and the file that it is in."""
    while "$ref" in schema:
        name, _, pointer = schema["$ref"].partition("#")
        path = path.parent / name if name else path
        schema = load(path)
        for word in pointer.split("/")[1:]:
            schema = schema[word.replace("~1", "/").replace("~0", "~")]
    return schema, path


def types(schema, path):
    """All JSON types that a value may have; none: any."""
    schema, path = resolve(schema, path)
    found = schema.get("type", [])
    found = {found} if isinstance(found, str) else set(found)
    values = schema.get("enum", []) + ([schema["const"]] if "const" in schema else [])
    if not found:
        found = {{bool: "boolean", int: "integer", str: "string", type(None): "null"}[type(value)] for value in values}
    for key in COMBINED:
        for part in schema.get(key, []):
            found |= types(part, path)
    return found


def walk(schema, path, where, properties, seen=()):
    """Notes every property below: "agent.problems[]" -> its types, its values, whether it is always there."""
    schema, path = resolve(schema, path)
    assert id(schema) not in seen, f"{where} is in itself"
    for key in COMBINED:
        for part in schema.get(key, []):
            walk(part, path, where, properties, seen)
    for name, part in schema.get("properties", {}).items():
        note(part, path, f"{where}.{name}".lstrip("."), properties, name in schema.get("required", ()))
    if isinstance(schema.get("additionalProperties"), dict):
        note(schema["additionalProperties"], path, f"{where}.*".lstrip("."), properties, False)
    if "items" in schema:
        note(schema["items"], path, f"{where}[]", properties, True)


def note(schema, path, where, properties, required):
    target, _path = resolve(schema, path)
    known = properties.setdefault(where, {"types": set(), "required": required})
    known["types"] |= types(schema, path)
    known["required"] = known["required"] and required
    if "enum" in target:
        known.setdefault("values", []).extend(value for value in target["enum"] if value not in known.get("values", []))
    walk(schema, path, where, properties)


def properties_of(name):
    path = SCHEMAS / f"{name}.schema.json"
    properties = {}
    walk(load(path), path, "", properties)
    return {where: {**known, "types": sorted(known["types"])} for where, known in sorted(properties.items())}


def interface_of(path):
    text = Interface(path.read_text(encoding="utf-8"))
    return {"methods": {name: {"takes": takes, "gives": gives} for name, (takes, gives) in text.methods.items()},
            "errors": text.errors, "types": text.types}


def promises():
    names = sorted(path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.schema.json"))
    return {"schemas": {name: properties_of(name) for name in names},
            "interface": interface_of(SCHEMAS / "io.ipipdirect.varlink")}


def lines(items):
    """An item a line, so that a difference can be read."""
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in items.items()) + "}"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: released.py VERSION")
    path = RELEASED / f"{sys.argv[1]}.json"
    made = promises()
    with open(path, "x", encoding="utf-8") as file:  # a promise is not rewritten
        file.write('{"schemas": {\n')
        file.write(",\n".join(f'"{name}": {lines(properties)}' for name, properties in made["schemas"].items()))
        file.write('},\n"interface": {\n')
        file.write(",\n".join(f'"{part}": {lines(items)}' for part, items in made["interface"].items()) + "}}\n")


if __name__ == "__main__":
    main()
