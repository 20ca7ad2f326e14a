# SPDX-License-Identifier: MIT
"""The schemas as the tests use them."""

import copy
import json
import pathlib

import jsonschema

SCHEMAS = pathlib.Path(__file__).parents[2] / "schema"
EXAMPLES = SCHEMAS / "examples"


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def validator(name, change=lambda schema: schema):
    """References are relative to the file."""
    path = SCHEMAS / f"{name}.schema.json"
    schema = change(load(path))
    store = {other.as_uri(): change(load(other)) for other in SCHEMAS.glob("*.schema.json")}
    resolver = jsonschema.RefResolver(path.as_uri(), schema, store=store)
    return jsonschema.Draft202012Validator(schema, resolver=resolver)


def closed(schema):
    """The schema without room to grow: a field that it does not describe is an error."""
    schema = copy.deepcopy(schema)
    for part in objects(schema):
        part["additionalProperties"] = False
    return schema


def parts(schema):
    """The schema and all schemas in it, with where they stand."""
    todo = [("#", schema)]
    while todo:
        where, part = todo.pop()
        yield where, part
        for key in ("properties", "$defs"):
            todo += [(f"{where}/{key}/{name}", sub) for name, sub in part.get(key, {}).items()]
        for key in ("items", "additionalProperties"):
            if isinstance(part.get(key), dict):
                todo.append((f"{where}/{key}", part[key]))
        for key in ("anyOf", "oneOf", "allOf"):
            todo += [(f"{where}/{key}/{i}", sub) for i, sub in enumerate(part.get(key, []))]


def objects(schema):
    return [part for _where, part in parts(schema) if "properties" in part]
