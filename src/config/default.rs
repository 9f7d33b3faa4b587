//! The built-in defaults. `config/leadlane.yaml` holds each of them too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{
    Admin, Clevertap, InletServer, Kafka, Log, LogFormat, Metrics, Processor, Properties, Rebalance, Retry, Sender,
    Slack, Start, Topics,
};
use crate::dates::Rate;

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            group: "leadlane".into(),
            properties: Properties::default(),
            consumer_properties: Properties::default(),
            producer_properties: Properties::default(),
        }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            events: "lead-events".into(),
            rules: "tracking-rules".into(),
            jobs: "delivery-jobs".into(),
            outcomes: "delivery-outcomes".into(),
            dead_letters: "dead-letters".into(),
            audit: "rule-audit".into(),
        }
    }
}

impl Default for Processor {
    fn default() -> Self {
        Self {
            workers: 1,
            instance: None,
            start: Start::Earliest,
            rebalance: Rebalance::Eager,
            commit_interval: Duration::from_millis(50),
            batch_events_max: 50_000,
        }
    }
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            request_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(20),
            dedup_window: Duration::from_secs(24 * 3600),
            dedup_ids_max: 2_000_000,
            job_age_max: Duration::from_secs(72 * 3600),
            payload_bytes_max: 64 * 1024 * 1024,
            retry: Retry::default(),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(600),
            step_aside: Duration::from_secs(600),
            give_up_after: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Slack {
    fn default() -> Self {
        Self {
            api_url: "https://slack.com/api".into(),
            channel_rate: Rate::per_second(1),
            workspace_rate: Rate::per_minute(300),
            webhook_rate: Rate::per_second(1),
            webhook_hosts: vec!["hooks.slack.com".into()],
            join: true,
            limits: Vec::new(),
        }
    }
}

impl Default for Clevertap {
    fn default() -> Self {
        Self {
            batch_max: 1000,
            batch_wait: Duration::from_millis(200),
            api_url: None,
            accounts: BTreeMap::new(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            hosts: Vec::new(),
            tokens: Vec::new(),
            proxy: None,
            recent_events: 10_000,
            deliveries_max: 1_000_000,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { rules_max: 1000 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".into(),
        }
    }
}

impl Default for InletServer {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            body_max: 1_000_000,
            in_flight_max: 1024,
        }
    }
}
