"""Lead events as other people's programs write them, and records as they read them.

The tests call this with the Python that tests/parts/python prints. It shares nothing with Leadlane but the schema
file and the topic: confluent-kafka and fastavro are the independent word on framing, Avro and transactions.

  produce   writes lead events, the same for the same seed, and prints each with its format, partition and offset
  read      prints every record of a topic

Both print one JSON object a line.
"""

import argparse
import base64
import io
import json
import random
import sys
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

PRODUCTS = {"12": "Auto Insurance", "14": "Home Insurance", "20": "Payday"}
PUBLISHERS = {"3401": "BrightTraffic", "3402": "Clickstream", "3403": "Söderlund & Co <Media>"}
BUYERS = {"210": "SafeDrive", "211": "HomeShield", "212": "QuickCash"}
CAMPAIGNS = {"5521": "SafeDrive TX 25-65", "5522": "HomeShield FL", "5523": "QuickCash US"}
PEOPLE = [("Ana", "Diaz", "Austin", "TX", "78701"), ("Bo", "O'Neil", "Miami", "FL", "33101"),
          ("Chloé", "Müller", "Reno", "NV", "89501"), ("Dan", "Wu", "Albany", "NY", "12207")]
TRIGGERS = ["lms.lead_sold", "lms.lead_rejected", "lms.campaign_rejected", "lms.publisher_earning_received",
            "lms.campaign_sold", "lms.revenue_ping_back", "call_logic.lead_sold", "call_logic.lead_rejected",
            "call_logic.campaign_rejected", "call_logic.campaign_accepted", "call_logic.campaign_sold",
            "call_logic.publisher_earning_received", "call_logic.buyer_response", "lms.lead_returned"]
FORMATS = ["json", "json-loose", "avro", "framed"]


def lead_event(chance, occurred_at):
    """One believable event. Money is text with four decimals, times are RFC 3339 with milliseconds."""
    trigger = chance.choice(TRIGGERS)
    fact = trigger.split(".")[1]
    refused = fact.endswith("rejected")
    first, last, city, state, zip_code = chance.choice(PEOPLE)
    price = Decimal(chance.randrange(5_0000, 120_0000, 2500)) / 10_000
    event = {
        "event_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "trigger": trigger,
        "occurred_at": rfc3339(occurred_at),
        "lead_id": str(chance.randrange(10_000_000, 99_999_999)),
        "public_lead_id": "".join(chance.choices("ABCDEFGHJKMNPQRSTVWXYZ23456789", k=6)),
        "status": "Rejected" if refused else "Sold",
        "is_test": chance.random() < 0.05,
        "method": chance.choice(["POST", "FORM"]),
        "product": entity(chance, PRODUCTS),
        "publisher": entity(chance, PUBLISHERS),
        "channel": {"id": "9012", "name": "bt-auto-api"},
        "source": {"id": f"sub-{chance.randrange(100)}", "name": None},
        "pingtree": {"id": "31", "name": "Auto main"},
        "currency": chance.choice(["USD", "USD", "USD", "EUR", "CAD", None]),
        "consumer": {"first_name": first, "last_name": last, "email": f"{first.lower()}@example.com",
                     "phone": f"+1512555{chance.randrange(10_000):04}", "city": city, "state": state,
                     "zip": zip_code, "country": "US"},
        "fields": {"vehicle_year": str(chance.randrange(1990, 2026)),
                   "note": chance.choice(["", "a|b", "ünïcode ✓"])},
    }
    if fact != "lead_rejected":
        event |= {"buyer": entity(chance, BUYERS), "campaign": entity(chance, CAMPAIGNS)}
    if refused:
        event |= {"reason_code": "duplicate", "reason": "Seen within 30 days", "attempt": chance.randrange(1, 9)}
    elif chance.random() < 0.95:
        event |= {"price": money(price), "payout": money(price * 7 / 10)}
        if fact == "revenue_ping_back":
            event |= {"revenue": money(price * 2), "transaction_id": f"tx-{chance.randrange(10**9)}"}
    if trigger.startswith("call_logic."):
        event["call"] = call(chance, occurred_at)
    return event


def entity(chance, names):
    ident = chance.choice(list(names))
    return {"id": ident, "name": names[ident]}


def call(chance, occurred_at):
    seconds = chance.randrange(0, 900)
    return {"call_id": f"call-{chance.randrange(10**6)}", "caller_number": "+15125550123",
            "dialed_number": "+18005550100", "started_at": rfc3339(occurred_at - timedelta(seconds=seconds + 12)),
            "answered_at": rfc3339(occurred_at - timedelta(seconds=seconds)) if seconds else None,
            "ended_at": rfc3339(occurred_at), "billable_seconds": seconds, "answered": seconds > 0,
            "recording_url": None}


def money(amount):
    return str(amount.quantize(Decimal("0.0001")))


def rfc3339(moment):
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def loose(event):
    """The event as careless producers write JSON: ids and money as numbers, times in epoch milliseconds."""

    def number(text):
        return int(text) if text.isdecimal() and str(int(text)) == text else text

    out = {name: value for name, value in event.items() if value is not None}
    for name in ("product", "publisher", "channel", "source", "buyer", "campaign", "pingtree"):
        if name in out:
            out[name] = {**out[name], "id": number(out[name]["id"])}
    for name in ("price", "payout", "revenue"):
        if name in out:
            out[name] = float(out[name])
    out["occurred_at"] = epoch_milliseconds(out["occurred_at"])
    out["fields"] = {name: number(value) for name, value in out["fields"].items()}
    return out | {"lead_id": number(out["lead_id"]), "of_no_interest": {"to": ["anyone"]}}


def epoch_milliseconds(text):
    return round(moment(text).timestamp() * 1000)


def moment(value):
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value / 1000, timezone.utc)
    return datetime.fromisoformat(value.replace("Z", "+00:00"))


class Schema:
    """An Avro schema, and the two ways in which a record names it."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.written = json.load(file)
        self.named = {}
        self.parsed = fastavro.parse_schema(self.written, self.named)
        canonical = fastavro.schema.to_parsing_canonical_form(self.written)
        # fastavro gives the bytes in hexadecimal in the order in which they are written, little-endian.
        self.fingerprint = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))

    def single_object(self, event):
        return b"\xc3\x01" + self.fingerprint + self.body(event)

    def framed(self, event, schema_id):
        return b"\x00" + schema_id.to_bytes(4, "big") + self.body(event)

    def body(self, event):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self.parsed, self.typed(event, self.parsed))
        return out.getvalue()

    def typed(self, value, schema):
        """The JSON value as the Python type that the schema's place wants: Decimal, datetime, int, text."""
        if isinstance(schema, str):
            schema = self.named.get(schema, schema)
        if isinstance(schema, list):
            if value is None:
                return None
            return self.typed(value, next(branch for branch in schema if branch != "null"))
        kind, logical = (schema, None) if isinstance(schema, str) else (schema["type"], schema.get("logicalType"))
        if isinstance(kind, (dict, list)):
            return self.typed(value, kind)
        if logical == "decimal":
            return Decimal(str(value))
        if logical in ("timestamp-millis", "timestamp-micros"):
            return moment(value)
        if kind == "record":
            return {field["name"]: self.typed(value[field["name"]], field["type"])
                    for field in schema["fields"] if field["name"] in value}
        if kind == "map":
            return {name: self.typed(item, schema["values"]) for name, item in value.items()}
        if kind == "array":
            return [self.typed(item, schema["items"]) for item in value]
        if kind == "string" and not isinstance(value, str):
            return json.dumps(value)
        return value


def register(url, subject, schema):
    """The id under which the registry knows the schema; the same schema keeps its id."""
    request = urllib.request.Request(
        f"{url.rstrip('/')}/subjects/{subject}/versions",
        data=json.dumps({"schema": json.dumps(schema.written)}).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["id"]


def produce(options):
    formats = options.formats.split(",")
    if unknown := set(formats) - set(FORMATS):
        raise SystemExit(f"--formats: no such format: {', '.join(sorted(unknown))}; there are {', '.join(FORMATS)}")
    schema = Schema(options.schema) if {"avro", "framed"} & set(formats) else None
    schema_id = None
    if "framed" in formats:
        if not options.registry:
            raise SystemExit("--formats framed needs --registry URL")
        schema_id = register(options.registry, f"{options.topic}-value", schema)
    encode = {
        "json": lambda event: json.dumps(event, ensure_ascii=False).encode(),
        "json-loose": lambda event: json.dumps(loose(event)).encode(),
        "avro": lambda event: schema.single_object(event),
        "framed": lambda event: schema.framed(event, schema_id),
    }
    producer = Producer({"bootstrap.servers": options.brokers, "enable.idempotence": True, "linger.ms": 20,
                         "partitioner": "murmur2_random", "message.timeout.ms": 60_000})
    written, failures = [None] * options.count, []

    def delivered(number, event, form):
        def report(error, message):
            if error:
                failures.append(str(error))
            else:
                written[number] = {"format": form, "partition": message.partition(), "offset": message.offset(),
                                   "event": event}
        return report

    chance, start = random.Random(options.seed), moment(options.start)
    for number in range(options.count):
        event = lead_event(chance, start + timedelta(milliseconds=number * 137))
        form = formats[number % len(formats)]
        record = {"topic": options.topic, "key": event["lead_id"], "value": encode[form](event),
                  "on_delivery": delivered(number, event, form)}
        while True:
            try:
                producer.produce(**record)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    unsent = producer.flush(90)
    if failures or unsent:
        raise SystemExit(f"{len(failures)} events failed ({failures[:1]}), {unsent} are not acknowledged")
    for line in written:
        emit(line)


def read(options):
    failures = []
    consumer = Consumer({"bootstrap.servers": options.brokers, "group.id": "reader", "enable.auto.commit": False,
                         "enable.partition.eof": True, "isolation.level": options.isolation,
                         "error_cb": lambda error: failures.append(str(error))})
    try:
        partitions = consumer.list_topics(options.topic, timeout=30).topics[options.topic].partitions
        if not partitions:
            raise SystemExit(f"there is no topic {options.topic}")
        consumer.assign([TopicPartition(options.topic, partition, OFFSET_BEGINNING) for partition in partitions])
        waiting = set(partitions)
        while waiting or not options.until_end:
            message = consumer.poll(options.timeout)
            if message is None:
                if options.until_end:
                    raise SystemExit(f"nothing came for {options.timeout} s before the end: {failures[-1:]}")
            elif message.error() is None:
                emit(as_line(message))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                waiting.discard(message.partition())
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()


def as_line(message):
    key, value = message.key(), message.value()
    return {
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": message.timestamp()[1],
        "key": None if key is None else key.decode(errors="replace"),
        "value": None if value is None else base64.b64encode(value).decode(),
        "headers": [[name, None if text is None else text.decode(errors="replace")]
                    for name, text in message.headers() or []],
    }


def emit(line):
    print(json.dumps(line, ensure_ascii=False), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    writing = verbs.add_parser("produce", help="writes lead events")
    writing.set_defaults(run=produce)
    writing.add_argument("--schema", default="schemas/lead_event.avsc", help="the Avro schema of a lead event")
    writing.add_argument("--count", type=int, required=True, help="how many events")
    writing.add_argument("--seed", type=int, default=1, help="the same seed writes the same events")
    writing.add_argument("--formats", default="json", help=f"in turn, of {','.join(FORMATS)}")
    writing.add_argument("--registry", help="the schema registry's URL, for framed")
    writing.add_argument("--start", default="2026-03-05T15:16:00.123Z", help="when the first event occurred")
    reading = verbs.add_parser("read", help="prints the records of a topic, the value in base64")
    reading.set_defaults(run=read)
    reading.add_argument("--isolation", choices=["read_committed", "read_uncommitted"], default="read_committed")
    reading.add_argument("--until-end", action="store_true", help="stop at the end instead of waiting for more")
    reading.add_argument("--timeout", type=float, default=30.0, help="seconds of silence before giving up")
    for verb in (writing, reading):
        verb.add_argument("--brokers", required=True, help="host:port, several by comma")
        verb.add_argument("--topic", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        chosen = arguments()
        chosen.run(chosen)
    except KeyboardInterrupt:
        sys.exit(130)
    except (KafkaException, urllib.error.URLError, OSError) as error:
        raise SystemExit(f"producers.py: {error}") from None
