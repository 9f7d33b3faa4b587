//! The account that a record is uploaded to.

use std::sync::Arc;

use crate::credential;
use crate::reader::{Object, Reader};
use crate::sealed::Sealed;

pub const ACCOUNT_FIELDS: &[&str] = &["account_id", "region", "passcode"];
pub const PASSCODE_FIELDS: &[&str] = &["sealed"];
const ACCOUNT: &str = "needs the name of an account of clevertap.accounts in the config, or {account_id, region, passcode: {sealed: \"...\"}}";

/// A CleverTap account: of the config by its name, or described by the rule itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    Named(Arc<str>),
    Own(Box<Own>),
}

/// An account that a rule describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    pub account_id: String,
    pub region: String,
    pub passcode: Sealed,
}

impl Account {
    pub(super) fn read(reader: &mut Reader, action: &Object<'_>) -> Option<Self> {
        let value = reader.required(action, "account", ACCOUNT)?;
        if value.is_object() {
            let account = reader.object(&action.at("account"), value, ACCOUNT_FIELDS)?;
            return Self::read_own(reader, &account);
        }
        // An account is named as a secret is, because both stand in a credential's id; its spelling is its own.
        match value.as_str().filter(|name| credential::is_name(name)) {
            Some(name) => Some(Self::Named(reader.shared.text(name))),
            None => reader.refuse(action.at("account"), ACCOUNT),
        }
    }

    fn read_own(reader: &mut Reader, account: &Object<'_>) -> Option<Self> {
        // Both stand in the request, and the region is part of the host that the passcode goes to.
        let account_id = plain(
            reader,
            account,
            "account_id",
            64,
            "the account's id, such as W8W-6ZZ-9Z5Z",
        );
        let region = plain(reader, account, "region", 16, "a region such as in1, eu1 or us1");
        let cure = "write {sealed: \"...\"} as leadlane secrets seal prints it; with a stored secret, describe the \
                    account in clevertap.accounts of the config and name it here";
        let passcode = reader.required(account, "passcode", cure)?;
        let passcode = reader.secret_object(&account.at("passcode"), passcode, PASSCODE_FIELDS)?;
        let passcode = match passcode.get("sealed") {
            Some(_) => reader.sealed(&passcode),
            None => reader.refuse(account.at("passcode"), cure),
        };
        Some(Self::Own(Box::new(Own {
            account_id: account_id?,
            region: region?,
            passcode: passcode?,
        })))
    }
}

/// A text of letters, digits and `-`.
fn plain(reader: &mut Reader, object: &Object<'_>, name: &str, len_max: usize, what: &str) -> Option<String> {
    reader.required(object, name, &format!("write {what}"))?;
    let text = reader.text(object, name)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if text.len() <= len_max && text.chars().all(fits) {
        return Some(text.to_owned());
    }
    reader.refuse(object.at(name), format!("needs {what}"))
}
