//! The values of some secrets as the store said them last, for whoever compares what strangers show.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Secret, SecretError, Secrets};
use crate::credential::SecretName;

/// Some secrets by name, with their values.
#[derive(Debug)]
pub struct Held {
    names: Vec<SecretName>,
    said: Mutex<Said>,
}

/// What the store said last; of each name its value, where there is one.
#[derive(Debug, Default)]
struct Said {
    values: Arc<[Option<Secret>]>,
    missing: usize,
}

impl Held {
    /// Nothing is held before the first [`Self::refresh`].
    pub fn new<'n>(names: impl IntoIterator<Item = &'n SecretName>) -> Self {
        Self {
            names: names.into_iter().cloned().collect(),
            said: Mutex::default(),
        }
    }

    /// The value of each name, in order, where there is one.
    pub fn values(&self) -> Arc<[Option<Secret>]> {
        Arc::clone(&self.said().values)
    }

    /// Reads the secrets again. While the store is silent, what it said last holds. Says which are missing, and why, where more are than before. Needs tokio's runtime.
    pub async fn refresh(&self, secrets: &Secrets) -> Option<String> {
        let (before, mut values, mut missing) = (self.values(), Vec::new(), Vec::new());
        for (at, name) in self.names.iter().enumerate() {
            values.push(match secrets.reveal(name.as_str()).await {
                Ok(secret) => Some(secret),
                Err(error) => {
                    missing.push(error.to_string());
                    let silent = matches!(error, SecretError::Silent(_));
                    before.get(at).cloned().flatten().filter(|_| silent)
                }
            });
        }
        let mut said = self.said();
        let is_news = missing.len() > said.missing;
        *said = Said {
            values: values.into(),
            missing: missing.len(),
        };
        is_news.then(|| missing.join("; "))
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_the_store_said_last_holds_while_it_is_silent_and_no_longer() {
        static STEP: AtomicUsize = AtomicUsize::new(0);
        let secrets = Secrets::looking_up(|_, name| match (name.as_str(), STEP.load(Ordering::Relaxed)) {
            ("empty", _) => Ok(Secret::new("")),
            (_, 0) => Ok(Secret::new("first")),
            (name, 1) => Err(SecretError::Silent(name.to_owned())),
            (_, 2) => Ok(Secret::new("second")),
            _ => Err(SecretError::NoName),
        });
        let names = ["one", "empty"].map(|name| SecretName::new(name).unwrap());
        let held = Held::new(&names);
        assert!(held.values().is_empty());
        let refreshed = async |step: usize| {
            STEP.store(step, Ordering::Relaxed);
            let said = held.refresh(&secrets).await;
            let values: Vec<Option<String>> = held
                .values()
                .iter()
                .map(|value| Some(value.as_ref()?.reveal().to_owned()))
                .collect();
            (values, said)
        };
        let one = |value: &str| vec![Some(value.to_owned()), None];
        assert_eq!(
            refreshed(0).await,
            (
                one("first"),
                Some("secret empty is empty; write it into its file or variable".to_owned())
            )
        );
        // It is said when it begins, and once.
        let (values, said) = refreshed(1).await;
        assert!(values == one("first") && said.is_some_and(|said| said.starts_with("secret one could not be read")));
        assert_eq!(refreshed(1).await, (one("first"), None));
        assert_eq!(refreshed(2).await, (one("second"), None));
        let (values, said) = refreshed(3).await;
        assert!(values == [None, None] && said.is_some(), "{said:?}");
    }

    #[test]
    fn a_secret_is_what_it_holds_and_nothing_near_it() {
        let secret = Secret::new("right");
        assert!(secret.is(b"right"));
        for wrong in ["", "righ", "rightt", "Right"] {
            assert!(!secret.is(wrong.as_bytes()), "{wrong}");
        }
    }
}
