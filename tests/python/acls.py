"""Users and ACLs of the secured test broker, many at once: the command kafka-acls.sh starts a JVM for each line.

  users DIR NAME...   makes users with SCRAM-SHA-512; the password of each is its name and "-secret"
  apply DIR           carries out the lines of kafka-acls.sh that come on stdin, options that it doesn't know are refused

DIR is the folder of a broker that `tests/kafka/kafka start --secure` started; both act as its super user.
"""

import argparse
import pathlib
import shlex
import sys

from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType,
    ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion)

OPERATIONS = {"Read": AclOperation.READ, "Write": AclOperation.WRITE, "Create": AclOperation.CREATE,
              "Delete": AclOperation.DELETE, "Alter": AclOperation.ALTER, "Describe": AclOperation.DESCRIBE,
              "ClusterAction": AclOperation.CLUSTER_ACTION, "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
              "AlterConfigs": AclOperation.ALTER_CONFIGS, "IdempotentWrite": AclOperation.IDEMPOTENT_WRITE}
PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefixed": ResourcePatternType.PREFIXED}


def options():
    """Those of kafka-acls.sh that Leadlane's pages and messages name."""
    line = argparse.ArgumentParser(prog="kafka-acls.sh", allow_abbrev=False)
    line.add_argument("--bootstrap-server", required=True)
    line.add_argument("--command-config", required=True)
    which = line.add_mutually_exclusive_group(required=True)
    which.add_argument("--add", action="store_true")
    which.add_argument("--remove", action="store_true")
    line.add_argument("--force", action="store_true")
    line.add_argument("--allow-principal", action="append", required=True)
    line.add_argument("--operation", action="append", required=True, choices=OPERATIONS)
    line.add_argument("--resource-pattern-type", default="literal", choices=PATTERNS)
    for resource in "topic", "group", "transactional-id":
        line.add_argument(f"--{resource}", action="append", default=[])
    line.add_argument("--cluster", action="store_true")
    return line


def bindings(line, kind, *more):
    """Everything that a line names, in every combination."""
    named = [(ResourceType.TOPIC, line.topic), (ResourceType.GROUP, line.group),
             (ResourceType.TRANSACTIONAL_ID, line.transactional_id),
             (ResourceType.BROKER, ["kafka-cluster"] if line.cluster else [])]
    return [kind(resource, name, PATTERNS[line.resource_pattern_type], principal, "*", OPERATIONS[operation],
                 AclPermissionType.ALLOW)
            for resource, names in named for name in names for principal in line.allow_principal
            for operation in line.operation]


def carry_out(admin, text):
    parser = options()
    added, removed = [], []
    for written in text.splitlines():
        words = shlex.split(written, comments=True)
        if not words:
            continue
        if words[0] != parser.prog:
            sys.exit(f"no line of {parser.prog}: {written}")
        line = parser.parse_args(words[1:])
        if line.add:
            added += bindings(line, AclBinding)
        else:
            removed += bindings(line, AclBindingFilter)
    futures = list(admin.create_acls(added, request_timeout=20).values()) if added else []
    futures += list(admin.delete_acls(removed, request_timeout=20).values()) if removed else []
    for future in futures:
        future.result()
    print(f"{len(added)} added, {len(removed)} removed")


def make_users(admin, names):
    made = [UserScramCredentialUpsertion(name, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096),
                                         f"{name}-secret".encode()) for name in names]
    for future in admin.alter_user_scram_credentials(made, request_timeout=20).values():
        future.result()


def main():
    verb, folder, *names = sys.argv[1:]
    folder = pathlib.Path(folder)
    ports = dict(line.split("=") for line in (folder / "ports").read_text().split())
    admin = AdminClient({
        "bootstrap.servers": f"127.0.0.1:{ports['client']}", "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "admin", "sasl.password": "admin-secret",
        "ssl.ca.location": str(folder / "tls" / "ca.pem")})
    if verb == "users":
        make_users(admin, names)
    elif verb == "apply":
        carry_out(admin, sys.stdin.read())
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
