"""Reads files as PyYAML does, and holds them against the schemas.

`schemas.py FILE...` prints a line for each fault; Test files, as `config/rules/recipes` are, have several parts.
"""

import json
import pathlib
import sys

import jsonschema_rs
import yaml

ROOT = pathlib.Path(__file__).parents[2]


def schema(name):
    return json.loads((ROOT / "schemas" / name).read_text())


REGISTRY = jsonschema_rs.Registry(
    [("json-schema:///" + name, schema(name)) for name in ("rule.schema.json", "rules.schema.json", "config.schema.json")]
)


def validator(document):
    return jsonschema_rs.validator_for(document, registry=REGISTRY)


RULES = validator(schema("rules.schema.json"))
CONFIG = validator(schema("config.schema.json"))


def parts(document):
    """The parts of a document, each with what it is held against."""
    if isinstance(document, dict) and "cases" in document:
        yield CONFIG, {"inlets": document.get("inlets", [])}
        yield RULES, [rule for rule in document["rules"] if not isinstance(rule, str)]
    elif isinstance(document, list) or isinstance(document, dict) and "trigger" in document:
        yield RULES, document
    else:
        yield CONFIG, document


def main():
    faults = 0
    for file in sys.argv[1:]:
        text = sys.stdin.read() if file == "-" else pathlib.Path(file).read_text()
        try:
            documents = list(yaml.safe_load_all(text))
        except yaml.YAMLError as error:
            print(f"{file}: {error}")
            faults += 1
            continue
        for document in documents:
            for against, part in parts(document):
                for error in against.iter_errors(part):
                    print(f"{file}: {'/'.join(map(str, error.instance_path))}: {error.message}")
                    faults += 1
    sys.exit(min(faults, 1))


main()
