//! The credentials of the rules in force, of CleverTap's accounts and of inlets: whether each is there, and its provider
//! takes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rules::Rules;
use super::settings::Store;
use super::{Finding, Patient, side_by_side};
use crate::action::clevertap::Account as Named;
use crate::config::Account;
use crate::credential::SecretName;
use crate::destination::Destinations;
use crate::destination::examine::{Examined, TokenUse};
use crate::mapping::Entrance;
use crate::rules::Rule;
use crate::sealed::Sealed;
use crate::secrets::{Secret, SecretError, SecretRef, Secrets};

/// A credential, and what is to be known of it.
#[derive(Clone)]
enum Credential {
    Token(SecretRef, TokenUse),
    Webhook(SecretRef),
    Account(Account),
}

pub(super) async fn look(patient: &Patient, rules: &Rules, store: &Store) -> Vec<Finding> {
    let mut credentials = of_config(patient);
    let mut findings = Vec::new();
    match &rules.sending {
        _ if !patient.roles.sender => {}
        Some(sending) => sending.iter().for_each(|rule| of_rule(rule, &mut credentials)),
        None => findings.push(Finding::not(
            "credentials",
            "credentials of rules: the rules can't be read",
        )),
    }
    if credentials.is_empty() {
        return findings;
    }
    let destinations = match Destinations::new(&patient.config, store.secrets.clone()) {
        Ok(destinations) => Arc::new(destinations),
        Err(error) => {
            findings.push(Finding::failed("credentials", format!("credentials: {error}")));
            return findings;
        }
    };
    let (is_there, opens) = (store.is_there, store.opens);
    let checks = credentials.into_iter().map(|(id, credential)| {
        let (destinations, secrets) = (Arc::clone(&destinations), store.secrets.clone());
        let check = {
            let id = id.clone();
            async move {
                let why = match credential.secret() {
                    SecretRef::Secret(_) if !is_there => Some("secrets.dir can't be read"),
                    SecretRef::Sealed(_) if !opens => Some("secrets.key_file can't be used"),
                    _ => None,
                };
                match why {
                    Some(why) => vec![Finding::not(&id, format!("{id}: {why}"))],
                    None => vec![examine(&id, &credential, &destinations, &secrets).await],
                }
            }
        };
        (id, check)
    });
    findings.extend(side_by_side(checks.collect()).await);
    findings
}

impl Credential {
    fn secret(&self) -> &SecretRef {
        match self {
            Self::Token(secret, _) | Self::Webhook(secret) => secret,
            Self::Account(account) => &account.passcode,
        }
    }
}

/// The accounts, and the tokens that inlets ask for users with.
fn of_config(patient: &Patient) -> BTreeMap<String, Credential> {
    let (config, roles) = (&patient.config, patient.roles);
    let accounts = config.clevertap.accounts.iter().filter(|_| roles.sender);
    let accounts = accounts.map(|(name, account)| (format!("clevertap:{name}"), Credential::Account(account.clone())));
    let mut credentials: BTreeMap<String, Credential> = accounts.collect();
    for inlet in config.inlets.iter().filter(|_| roles.inlets) {
        if let Entrance::Http { users: Some(token), .. } = &inlet.entrance {
            let asked = TokenUse {
                reads_users: true,
                ..TokenUse::default()
            };
            let secret = SecretRef::Secret(token.clone());
            credentials.insert(format!("slack:{token}"), Credential::Token(secret, asked));
        }
    }
    credentials
}

/// Adds the credential of a rule.
fn of_rule(rule: &Rule, credentials: &mut BTreeMap<String, Credential>) {
    let address = rule.action.kind.address();
    let id = address.credential;
    let Some(secret) = secret(&id, address.sealed) else {
        return;
    };
    match id.split_once(':') {
        Some(("slack", _)) => {
            let token = credentials
                .entry(id)
                .or_insert_with(|| Credential::Token(secret, TokenUse::default()));
            if let Credential::Token(_, asked) = token {
                let to_member = address.destination.starts_with(['U', 'W']);
                asked.posts = true;
                asked.members |= to_member;
                asked.channels |= !to_member;
            }
        }
        Some(("webhook", _)) => drop(credentials.insert(id, Credential::Webhook(secret))),
        _ => {
            // Of one that the configuration doesn't have, its rule is told of.
            if let (Some(Named::Own(own)), SecretRef::Sealed(_)) = (address.account, &secret) {
                let account = Account {
                    region: own.region.clone(),
                    account_id: own.account_id.clone(),
                    passcode: secret,
                    concurrency: 1,
                    api_url: None,
                };
                credentials.insert(id, Credential::Account(account));
            }
        }
    }
}

/// What a credential's secret is. Its name is the credential's, behind its kind.
fn secret(credential: &str, sealed: Option<&Sealed>) -> Option<SecretRef> {
    match sealed {
        Some(sealed) => Some(SecretRef::Sealed(sealed.clone())),
        None => SecretName::new(credential.split_once(':')?.1).map(SecretRef::Secret),
    }
}

async fn examine(id: &str, credential: &Credential, destinations: &Destinations, secrets: &Secrets) -> Finding {
    let value: Result<Secret, SecretError> = secrets.find(credential.secret()).await;
    let value = match value {
        Ok(value) => value,
        Err(error) => return Finding::failed(id, format!("{id}: {error}")),
    };
    let examined = match credential {
        Credential::Token(_, asked) => destinations.examine_token(id, value, *asked).await,
        Credential::Webhook(_) => destinations.examine_webhook(id, &value),
        Credential::Account(account) => destinations.examine_account(id, account, value).await,
    };
    match examined {
        Examined::Works(words) => Finding::ok(id, format!("{id}: {words}")),
        Examined::NotAsked(words) => Finding::not(id, format!("{id}: {words}")),
        Examined::Unreachable(words) => Finding::broken(
            id,
            format!("{id}: its provider can't be asked: {words}"),
            "look at the address (slack.api_url, an account's region or api_url), the proxy and the network",
        ),
        Examined::Refused(words) if words.contains("; ") => Finding::failed(id, format!("{id}: {words}")),
        Examined::Refused(words) => Finding::broken(id, format!("{id}: {words}"), cure(credential, secrets)),
    }
}

/// Where a value that works belongs.
fn cure(credential: &Credential, secrets: &Secrets) -> String {
    let what = match credential {
        Credential::Token(..) => "copy the Bot User OAuth Token from the app's settings",
        Credential::Webhook(_) => "add the host to slack.webhook_hosts, or copy the webhook's URL again",
        Credential::Account(_) => "copy the passcode from CleverTap's dashboard",
    };
    match credential.secret() {
        SecretRef::Secret(name) => format!("{what}, and {}", secrets.places(name)),
        SecretRef::Sealed(_) => format!("{what}, seal it by leadlane secrets seal, and write that into the rule"),
    }
}
