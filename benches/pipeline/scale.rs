//! One process with two workers, and more processes than one.
//!
//! Workers join one after the other, and the first would have read half of the events before the others have their share. So
//! the events stand behind a gate, which opens once all are ready.

use std::process::{Child, Stdio};
use std::time::Duration;

use leadlane::config::Config;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::events::Format;
use super::{
    Bench, RULES, Round, Topics, Usage, bare, committed, events, free_port, is_ready, print_ratio, span, until,
};

const WAIT: Duration = Duration::from_secs(30);

/// A transaction that is open before the events: who reads what is committed doesn't see them until it ends.
struct Gate(BaseProducer);

impl Gate {
    fn close(config: &Config) -> Self {
        let topic = &config.topics.events;
        // As long as the broker allows.
        let settings = [
            ("transactional.id", topic.as_str()),
            ("transaction.timeout.ms", "900000"),
        ];
        let producer: BaseProducer = bare::client(config, &settings).create().unwrap();
        producer.init_transactions(WAIT).unwrap();
        producer.begin_transaction().unwrap();
        for partition in 0..bare::PARTITIONS {
            let record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(partition).payload("the gate");
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(WAIT).unwrap();
        Self(producer)
    }

    /// Nobody ever sees what it stood on.
    fn open(self) {
        self.0.abort_transaction(WAIT).unwrap();
    }
}

/// A processor of several, and where it serves its metrics.
struct Instance {
    child: Child,
    admin: u16,
}

impl Topics {
    fn instance(&self, workers: usize) -> Instance {
        let admin = free_port();
        let mut command = self.command(&["run", "--role", "processor"]);
        command
            .env("LEADLANE__ADMIN__LISTEN", format!("127.0.0.1:{admin}"))
            .env("LEADLANE__PROCESSOR__INSTANCE", format!("instance-{admin}"))
            .env("LEADLANE__PROCESSOR__WORKERS", workers.to_string());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        Instance { child, admin }
    }
}

impl Bench {
    pub(super) fn with_two_workers(&self) {
        let mut ratios = Vec::new();
        for round in 0..self.rounds {
            let (one, two) = (self.shared(1, 1), self.shared(1, 2));
            println!(
                "round {round}: one worker {:.0}/s, {:.2} µs; two workers {:.0}/s, {:.2} µs, {} MB",
                one.rate, one.cpu, two.rate, two.cpu, two.memory
            );
            ratios.push(two.rate / one.rate);
        }
        print_ratio("two workers, events a second, ÷ one", ratios.into_iter());
    }

    pub(super) fn with_more_instances(&self) {
        let mut ratios = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            let rounds = [1, 2, 3].map(|instances| self.shared(instances, 1));
            for (instances, of) in (1..).zip(rounds) {
                println!(
                    "round {round}: {instances} instances {:.0}/s, {:.2} µs, {} MB together",
                    of.rate, of.cpu, of.memory
                );
            }
            let [one, two, three] = rounds;
            ratios[0].push(two.rate / one.rate);
            ratios[1].push(three.rate / one.rate);
        }
        let [two, three] = ratios;
        print_ratio("two instances, events a second, ÷ one", two.into_iter());
        print_ratio("three instances, events a second, ÷ one", three.into_iter());
    }

    /// So many processes of so many workers share the events, from the moment when all of them are ready.
    fn shared(&self, instances: usize, workers: usize) -> Round {
        let topics = self.topics();
        topics.apply(RULES);
        let gate = Gate::close(&topics.config);
        let (wanted, _) = events::fill(&topics.config, self.count, &events::rules(RULES), Format::Json);
        let processes: Vec<Instance> = (0..instances).map(|_| topics.instance(workers)).collect();
        until("all instances are ready", || {
            processes.iter().all(|process| is_ready(process.admin))
        });
        let used = || -> Vec<Usage> { processes.iter().map(|of| Usage::of(of.child.id())).collect() };
        let before: f64 = used().iter().map(|usage| usage.cpu).sum();
        gate.open();
        until("all jobs are committed", || {
            processes.iter().map(|of| committed(of.admin)).sum::<u64>() >= wanted
        });
        let used = used();
        for process in processes {
            topics.stop(process.child);
        }
        let (jobs, seconds, _) = span(&topics.config, &topics.config.topics.jobs);
        assert_eq!(jobs, wanted, "each match is there once");
        let usage = Usage {
            cpu: used.iter().map(|usage| usage.cpu).sum::<f64>() - before,
            memory: used.iter().map(|usage| usage.memory).sum(),
            resident: used.iter().map(|usage| usage.resident).sum(),
        };
        self.round(usage, seconds)
    }
}
