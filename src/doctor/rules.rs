//! The rules in the topic: those that can't be in force, and those that name what the configuration doesn't have.

use super::kafka::Kafka;
use super::{Finding, Patient, blocking};
use crate::config::Config;
use crate::desk::rules::{self, Filter, InForce, Listed, View};
use crate::rules::{Rule, Status, check};

/// The rules as far as they could be read.
pub(super) struct Rules {
    pub(super) findings: Vec<Finding>,
    /// Those that send; none where they couldn't be read.
    pub(super) sending: Option<Vec<Rule>>,
}

impl Rules {
    /// Whether any rule sends to Slack's Web API.
    pub(super) fn uses_slack(&self) -> bool {
        let mut sending = self.sending.iter().flatten();
        sending.any(|rule| rule.action.kind.address().credential.starts_with("slack:"))
    }
}

pub(super) async fn look(patient: &Patient, kafka: &Kafka) -> Rules {
    let unread = |finding| Rules {
        findings: vec![finding],
        sending: None,
    };
    if let Some(why) = &kafka.no_rules {
        return unread(Finding::not("rules", format!("rules: {why}")));
    }
    let config = patient.config.clone();
    let read = blocking(move || {
        let view = View::scan(&config).map_err(|error| error.to_string())?;
        Ok(of(&config, &view))
    });
    read.await
        .unwrap_or_else(|said| unread(Finding::failed("rules", format!("rules: {said}"))))
}

fn of(config: &Config, view: &View) -> Rules {
    let (mut findings, mut sending, mut count) = (Vec::new(), Vec::new(), 0_usize);
    for listed in rules::list(view, &Filter::default()) {
        let rule = listed
            .in_force
            .as_ref()
            .and_then(InForce::whole)
            .map(|versioned| versioned.rule);
        findings.extend(wrong(config, &listed, rule.as_ref()));
        count += usize::from(rule.is_some());
        sending.extend(rule.filter(|rule| rule.status == Status::Active));
    }
    if findings.is_empty() {
        let noun = if count == 1 { "rule" } else { "rules" };
        findings.push(Finding::ok(
            "rules",
            format!("rules: {count} {noun} in force, and none is refused"),
        ));
    }
    Rules {
        findings,
        sending: Some(sending),
    }
}

/// What is wrong with what stands under one id.
fn wrong(config: &Config, listed: &Listed<'_>, rule: Option<&Rule>) -> Vec<Finding> {
    let id = format!("rule:{}", listed.id);
    let of = |words: String| format!("rule {}: {words}", listed.id);
    let mut findings = Vec::new();
    if let Some(rejected) = listed.rejected {
        let (offset, detail) = (rejected.offset, &rejected.detail);
        findings.push(Finding::failed(
            &id,
            of(format!("its record at offset {offset} is rejected: {detail}")),
        ));
    }
    for warning in &listed.warnings {
        findings.push(Finding::broken(
            &id,
            of(format!(
                "it stays in force, and may not be written like that any more: {warning}"
            )),
            "correct it in its file, and write it by: leadlane rules apply FILE",
        ));
    }
    let Some(rule) = rule else { return findings };
    let accounts: Vec<&str> = config.clevertap.accounts.keys().map(String::as_str).collect();
    let inlets: Vec<&str> = config.inlets.iter().map(|inlet| inlet.name.as_str()).collect();
    let account = check::account(rule, &accounts).unwrap_or_else(Some);
    for problem in account.into_iter().chain(check::inlet(rule, &inlets)) {
        findings.push(Finding::failed(&id, of(problem.to_string())));
    }
    findings
}
