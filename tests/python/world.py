"""What tests/chaos lays faults on: a Kafka, a sandbox, a processor and senders, with toxiproxy on the ways between."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from datetime import datetime
from pathlib import Path

from confluent_kafka.admin import AdminClient

from oracle import Way

TESTS = Path(__file__).resolve().parent.parent
REPOSITORY = TESTS.parent
# Leadlane's own session time-out.
SESSION_SECONDS = 10
REQUEST_SECONDS = 3
LATENCY_MS = 30
ACCOUNT_CONCURRENCY = 3
BATCH_MAX = 20

# Each lane's trigger is "chaos." and its name; the share is of the events. Where the destination has the same limit as
# the configuration, a 429 without a fault is a sign of a broken limit. The limits per second are checked by the oracle
# alone: a destination that counts by the second refuses what two busy cores have pushed together by 20 ms.
WAYS = [
    Way("C1A", "slack:bot-1", share=3, limit=(240, 60), credential_limit=(360, 60), same=True),
    Way("C1B", "slack:bot-1", share=3, limit=(240, 60), credential_limit=(360, 60), same=True),
    Way("C2A", "slack:bot-2", share=3, limit=(240, 60), credential_limit=(360, 60), same=True),
    Way("C2B", "slack:bot-2", share=3, limit=(240, 60), credential_limit=(360, 60), same=True),
    Way("C3A", "slack:bot-3", share=4, limit=(240, 60), credential_limit=(360, 60), same=True),
    Way("C4A", "slack:bot-4", share=3, limit=(3, 1), credential_limit=(360, 60), same=False),
    Way("hook-1", "webhook:hook-1", share=2, limit=(2, 1), same=False),
    Way("hook-2", "webhook:hook-2", share=2, limit=(2, 1), same=False),
    Way("ACME", "clevertap:acme", share=6),
    Way("BETA", "clevertap:beta", share=6),
]
# Events of these lanes are also uploaded to the account.
ALSO = {"C1A": "ACME", "C3A": "ACME", "hook-2": "BETA"}


# Which role has to say that a topic was made anew.
TELLERS = {"lead-events": "processor", "tracking-rules": "processor", "delivery-jobs": "sender"}


def rules():
    """The rules as YAML, and the lanes of each trigger."""
    texts, lanes = [], {}
    for way in WAYS:
        lanes[way.trigger] = [(rule_id(way.name), way.name)]
        texts.append(rule(rule_id(way.name), way.trigger, way))
    for name, account in ALSO.items():
        trigger, way = f"chaos.{name}", by_name(account)
        lanes[trigger].append((rule_id(name) + "-too", account))
        texts.append(rule(rule_id(name) + "-too", trigger, way))
    return "\n".join(texts), lanes


def by_name(name):
    return next(way for way in WAYS if way.name == name)


def rule_id(name):
    return f"to-{name.lower()}"


def rule(ident, trigger, way):
    kind, name = way.credential.split(":")
    action = {
        "slack": f'type: slack_message, token: {{secret: {name}}}, to: {{channel: {way.name}}}, text: "{{{{$.event_id}}}}"',
        "webhook": f'type: slack_webhook, url: {{secret: {name}}}, text: "{{{{$.event_id}}}}"',
        "clevertap": f'type: clevertap_event, account: {name}, identity: "{{{{$.lead_id}}}}", event_name: Chaos, '
                     'properties: {Id: "{{$.event_id}}"}',
    }[kind]
    return f'- {{id: {ident}, trigger: {trigger}, scope: {{level: product, id: "*"}}, action: {{{action}}}}}'


class World:
    """All processes, and what was done to them."""

    def __init__(self, folder, binary, say):
        self.folder, self.binary, self.say = folder, binary, say
        self.disruptions = []
        self.faults = {}
        self.breaches = []
        # Topics that were made anew, each with who was there.
        self.to_tell = []
        # When topics were missing.
        self.missing = []
        self.seats = {}

    # ---- parts

    def start(self):
        proxied, destination, sandbox = free_port(), free_port(), free_port()
        addresses = self.part("kafka/kafka", "start", "--port", "0", "--proxied", str(proxied)).split()
        self.direct, behind = addresses[0], addresses[-1]
        self.proxied = f"127.0.0.1:{proxied}"
        self.toxiproxy = self.part("parts/toxiproxy", "start", "--port", "0").strip()
        for name, port, upstream in (("kafka", proxied, behind), ("destination", destination, f"127.0.0.1:{sandbox}")):
            self.post(f"{self.toxiproxy}/proxies", {"name": name, "listen": f"127.0.0.1:{port}", "upstream": upstream})
        self.sandbox = f"http://127.0.0.1:{sandbox}/_sandbox"
        self.write_config(f"127.0.0.1:{destination}")
        self.sandbox_process = self.spawn("sandbox", ["sandbox", "--listen", f"127.0.0.1:{sandbox}"])
        self.until(lambda: self.answers(f"{self.sandbox}/summary"), 30, "the sandbox answers")
        self.limit_destinations()
        self.command("topics", "create", "--partitions", "8")
        texts, self.lanes = rules()
        (self.folder / "rules.yaml").write_text(texts)
        self.apply_rules()
        self.start_processor()

    def start_processor(self):
        self.processor_listen = listen()
        self.processor = self.spawn("processor", ["run", "--role", "processor"], LEADLANE__ADMIN__LISTEN=self.processor_listen)

    def part(self, name, verb, *options):
        path = self.folder / name.split("/")[-1]
        log = open(self.folder / "parts.log", "a")
        done = subprocess.run([TESTS / name, verb, "--dir", path, *options], stdout=subprocess.PIPE, stderr=log, text=True)
        if done.returncode:
            raise RuntimeError(f"tests/{name} {verb}: exit code {done.returncode}; see {self.folder}/parts.log")
        return done.stdout

    def write_config(self, destination):
        secrets = self.folder / "secrets"
        secrets.mkdir()
        for number in range(1, 5):
            (secrets / f"bot-{number}").write_text(f"xoxb-100{number}-chaos\n")
        for number in (1, 2):
            (secrets / f"hook-{number}").write_text(f"http://{destination}/services/T1/B1/hook-{number}\n")
        (secrets / "passcode").write_text("chaos-passcode\n")
        account = ("{{region: in1, account_id: {}, passcode: {{secret: passcode}}, concurrency: %d, "
                   "api_url: 'http://%s'}}" % (ACCOUNT_CONCURRENCY, destination))
        (self.folder / "leadlane.yaml").write_text(f"""
kafka: {{brokers: '{self.direct}', group: chaos}}
processor: {{instance: chaos}}
sender: {{request_timeout: {REQUEST_SECONDS}s, shutdown_timeout: 6s, retry: {{initial: 500ms, max: 2s}}}}
slack:
  api_url: http://{destination}/api
  webhook_hosts: ['{destination}']
  channel_rate: 240/m
  workspace_rate: 360/m
  webhook_rate: 2/s
  limits: [{{credential: 'slack:bot-4', channel: C4A, rate: 3/s}}]
clevertap: {{batch_wait: 100ms, batch_max: {BATCH_MAX}, accounts: {{acme: {account.format("ACME")}, beta: {account.format("BETA")}}}}}
secrets: {{dir: '{secrets}'}}
log: {{level: "info,leadlane=debug"}}
""")

    def limit_destinations(self):
        orders = [{"channel": "*", "rate": "240/m"}, {"channel": "C4A", "rate": "0"}, {"webhook": "*", "rate": "0"},
                  {"workspace": "*", "rate": "360/m"}, {"latency": f"{LATENCY_MS}ms"}]
        orders += [{"account": account, "concurrency": ACCOUNT_CONCURRENCY} for account in ("ACME", "BETA")]
        for order in orders:
            self.post(f"{self.sandbox}/limits", order)

    def apply_rules(self):
        self.command("rules", "apply", str(self.folder / "rules.yaml"))

    def make_anew(self, names):
        """Deletes topics and makes them again. Whoever had read of them has to say so."""
        admin, start, pids = AdminClient({"bootstrap.servers": self.direct, "log_level": 0}), time.time(), self.pids()
        missing = {"start": start, "end": None}
        self.missing.append(missing)
        for deleted in admin.delete_topics(names, operation_timeout=30).values():
            deleted.result()
        left = set(names)

        def made():
            said = self.command("topics", "create", "--partitions", "8", may_fail=True)
            left.difference_update([name for name in left if f"{name}: created" in said])
            return not left

        self.until(made, 30, f"{names} are made again")
        missing["end"] = time.time()
        self.to_tell += [(name, start, pids) for name in names if name in TELLERS]

    def pids(self):
        """Of the processes that run and are not stopped, and had time to read."""
        senders = {found["process"].pid for found in self.seats.values()
                   if not found["stopped"] and time.time() - found["began"] > 15}
        return {"processor": {self.processor.pid}, "sender": senders}

    def check_told(self):
        """That a topic was made anew is an error in the log, and counted, of somebody who had read it and is still there."""
        told = {name: [] for name in TELLERS}
        for log in self.folder.glob("*.log"):
            for line in log.read_text(errors="replace").splitlines():
                if " ERROR " in line and "made anew" in line:
                    at = datetime.fromisoformat(line.split()[0].replace("Z", "+00:00")).timestamp()
                    for name in told:
                        if f'kafka.topic="{name}"' in line:
                            told[name].append(at)
        for number, (name, start, pids) in enumerate(self.to_tell):
            next_one = min((later for other, later, _ in self.to_tell[number + 1:] if other == name), default=time.time())
            is_there = self.pids()[TELLERS[name]] & pids[TELLERS[name]]
            if is_there and not any(start <= at < next_one for at in told[name]):
                self.breaches.append(f"{name} was made anew at {start:.1f}, and nobody of {is_there} says so")
        metrics = self.request("GET", f"http://{self.processor_listen}/metrics").decode()
        for name, label in (("lead-events", "events"), ("tracking-rules", "rules")):
            counted = re.search(rf'leadlane_partitions_started_over_total{{topic="{label}"}} ([1-9])', metrics)
            if any(other == name for other, _, _ in self.to_tell) and not counted:
                self.breaches.append(f"{name} was made anew, and the processor has not counted it")
        self.say(f"partitions that were said to be made anew: { {name: len(times) for name, times in told.items()} }")

    def command(self, *arguments, may_fail=False):
        done = subprocess.run([self.binary, "--config", self.folder / "leadlane.yaml", *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode and not may_fail:
            raise RuntimeError(f"leadlane {' '.join(arguments)}: {done.stdout}")
        return done.stdout

    def spawn(self, name, arguments, **variables):
        log = open(self.folder / f"{name}.log", "ab")
        return subprocess.Popen([self.binary, "--config", self.folder / "leadlane.yaml", *arguments],
                                stdout=subprocess.DEVNULL, stderr=log, env={**os.environ, **variables})

    # ---- senders: each sits in a seat, and comes back there when it was killed

    def join(self, seat, through):
        """`through`: whether its way to the broker is the one that is cut."""
        address = self.proxied if through else self.direct
        process = self.spawn(f"sender-{seat}", ["run", "--role", "sender"],
                             LEADLANE__ADMIN__LISTEN=listen(), LEADLANE__KAFKA__BROKERS=address)
        self.seats[seat] = {"process": process, "through": through, "began": time.time(), "stopped": False}
        self.say(f"sender {seat} joins{' through the proxy' if through else ''}, pid {process.pid}")

    def kill(self, seat):
        process = self.seats.pop(seat)["process"]
        now = time.time()
        process.kill()
        process.wait()
        self.disrupted("kill", now, now)
        self.say(f"SIGKILL of sender {seat}, pid {process.pid}")

    def leave(self, seat):
        found = self.seats.pop(seat)
        self.say(f"SIGTERM to sender {seat}, pid {found['process'].pid}")
        threading.Thread(target=self.see_off, args=(seat, found)).start()

    def see_off(self, seat, found):
        """Asks for a clean end, and waits for it."""
        process = found["process"]
        process.send_signal(signal.SIGTERM)
        try:
            if process.wait(60) and not self.could_not_begin(found):
                self.breaches.append(f"sender {seat}, pid {process.pid}, ended with {process.returncode} after SIGTERM")
        except subprocess.TimeoutExpired:
            self.breaches.append(f"sender {seat}, pid {process.pid}, did not end within 60 s of SIGTERM")
            process.kill()
            process.wait()

    def could_not_begin(self, found):
        """Whether the broker, the way to it or a topic was away while a sender began, which is a reason not to begin."""
        away = [one for one in self.disruptions if one["kind"] in ("broker", "cut-kafka")] + self.missing
        return any(found["began"] - 1 < (one["end"] or time.time()) + 1 and one["start"] < found["began"] + 15 for one in away)

    def stop(self, seat):
        found = self.seats[seat]
        found["process"].send_signal(signal.SIGSTOP)
        found["stopped"] = True
        return self.disrupted("stop", time.time(), None)

    def go_on(self, seat, disruption):
        found = self.seats[seat]
        disruption["end"] = time.time()
        found["process"].send_signal(signal.SIGCONT)
        found["stopped"] = False

    def look_after(self):
        """A process that ends by itself is a breach, but for one that finds no broker, or not all topics, at its start."""
        for seat, found in list(self.seats.items()):
            code = found["process"].poll()
            if code is None:
                continue
            del self.seats[seat]
            self.say(f"sender {seat} ended by itself with {code}")
            if not self.could_not_begin(found):
                self.breaches.append(f"sender {seat} ended by itself with {code}; see {self.folder}/sender-{seat}.log")
            self.join(seat, found["through"])
        if self.processor.poll() is not None:
            self.breaches.append(f"the processor ended by itself; see {self.folder}/processor.log")
            self.start_processor()

    def disrupted(self, kind, start, end):
        disruption = {"kind": kind, "start": start, "end": end}
        self.disruptions.append(disruption)
        return disruption

    # ---- broker and network

    def kill_broker(self, seconds):
        """Kills the broker and starts it again on the same data; beside the rest."""
        self.say(f"SIGKILL of the broker; back after {seconds:.1f} s")
        disruption = self.disrupted("broker", time.time(), None)

        def work():
            self.part("kafka/kafka", "kill")
            time.sleep(seconds)
            self.part("kafka/kafka", "start")
            disruption["end"] = time.time()
            self.say("the broker is back")

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def cut(self, proxy, way):
        """`off`: connections break and are refused; `silent`: nothing comes through, and nobody says so; `deaf`: requests
        come through, answers don't."""
        disruption = self.disrupted(f"cut-{proxy}", time.time(), None)
        if way == "off":
            self.post(f"{self.toxiproxy}/proxies/{proxy}", {"enabled": False})
        else:
            for stream in ("downstream", "upstream")[: 1 if way == "deaf" else 2]:
                toxic = {"name": stream, "type": "timeout", "stream": stream, "attributes": {"timeout": 0}}
                self.post(f"{self.toxiproxy}/proxies/{proxy}/toxics", toxic)
        return disruption

    def mend(self, proxy, way, disruption):
        if way == "off":
            self.post(f"{self.toxiproxy}/proxies/{proxy}", {"enabled": True})
        else:
            # Off and on, as connections that lost bytes must not go on.
            self.post(f"{self.toxiproxy}/proxies/{proxy}", {"enabled": False})
            for stream in ("downstream", "upstream")[: 1 if way == "deaf" else 2]:
                self.request("DELETE", f"{self.toxiproxy}/proxies/{proxy}/toxics/{stream}")
            self.post(f"{self.toxiproxy}/proxies/{proxy}", {"enabled": True})
        disruption["end"] = time.time()

    def order(self, fault):
        ident = json.loads(self.post(f"{self.sandbox}/faults", fault))["id"]
        self.faults[str(ident)] = fault
        self.say(f"the destinations are told: {json.dumps(fault)}")

    # ---- the end

    def end(self):
        for seat in list(self.seats):
            self.see_off(seat, self.seats.pop(seat))

    def close(self):
        for found in self.seats.values():
            found["process"].kill()
        for process in (getattr(self, name, None) for name in ("processor", "sandbox_process")):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        for part in ("parts/toxiproxy", "kafka/kafka"):
            if (self.folder / part.split("/")[-1]).exists():
                self.part(part, "kill")

    # ---- HTTP

    def request(self, method, url, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, method=method, headers={"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def post(self, url, body):
        return self.request("POST", url, body)

    def answers(self, url):
        try:
            return self.request("GET", url) is not None
        except OSError:
            return False

    def until(self, true, seconds, what):
        deadline = time.time() + seconds
        while not true():
            if time.time() > deadline:
                raise RuntimeError(f"not within {seconds} s: {what}; see {self.folder}")
            time.sleep(0.1)


def free_port():
    """One that nobody listens on, below the range that outgoing connections take theirs from."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)):
                return port


def listen():
    return f"127.0.0.1:{free_port()}"
