//! What many rules have in common is kept once: of a million rules, few triggers, secrets, paths and templates differ.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use hashbrown::HashTable;

use crate::credential::SecretName;
use crate::path::{Path, PathError};
use crate::template::{Template, TemplateError};

/// With fewer of them, nobody looks for those that no rule has any more.
const KEPT_MIN: usize = 1024;

/// The texts of the rules that were read with it, each once.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    texts: Pool<Arc<str>>,
    secrets: Pool<SecretName>,
    paths: Pool<Arc<Path>>,
    templates: Pool<Template>,
}

impl Shared {
    pub(crate) fn text(&mut self, text: &str) -> Arc<str> {
        self.texts.get(text).unwrap_or_else(|| self.texts.keep(text.into()))
    }

    pub(crate) fn secret(&mut self, name: SecretName) -> SecretName {
        self.secrets
            .get(name.as_str())
            .unwrap_or_else(|| self.secrets.keep(name))
    }

    pub(crate) fn path(&mut self, text: &str) -> Result<Arc<Path>, PathError> {
        match self.paths.get(text) {
            Some(path) => Ok(path),
            None => Ok(self.paths.keep(Arc::new(Path::parse(text)?))),
        }
    }

    pub(crate) fn template(&mut self, text: &str) -> Result<Template, TemplateError> {
        match self.templates.get(text) {
            Some(template) => Ok(template),
            None => Ok(self.templates.keep(Template::parse(text)?)),
        }
    }
}

/// A part of a rule that its text says whole.
trait Part: Clone {
    fn text(&self) -> &str;

    /// Whether anybody else has it.
    fn is_shared(&self) -> bool;
}

/// Parts by their texts.
struct Pool<P> {
    parts: HashTable<P>,
    hasher: BuildHasherDefault<DefaultHasher>,
    /// With so many, those that no rule has any more are let go.
    full_at: usize,
}

impl<P: Part> Pool<P> {
    fn get(&self, text: &str) -> Option<P> {
        let found = self.parts.find(self.hasher.hash_one(text), |part| part.text() == text);
        found.cloned()
    }

    /// Keeps a part that is new.
    fn keep(&mut self, part: P) -> P {
        if self.parts.len() >= self.full_at {
            self.parts.retain(|part| part.is_shared());
            self.full_at = KEPT_MIN.max(self.parts.len() * 2);
        }
        let hasher = &self.hasher;
        let hash = |part: &P| hasher.hash_one(part.text());
        self.parts.insert_unique(hash(&part), part.clone(), hash);
        part
    }
}

impl<P> Default for Pool<P> {
    fn default() -> Self {
        Self {
            parts: HashTable::new(),
            hasher: BuildHasherDefault::default(),
            full_at: KEPT_MIN,
        }
    }
}

impl<P> fmt::Debug for Pool<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parts", self.parts.len())
    }
}

impl Part for Arc<str> {
    fn text(&self) -> &str {
        self
    }

    fn is_shared(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl Part for SecretName {
    fn text(&self) -> &str {
        self.as_str()
    }

    fn is_shared(&self) -> bool {
        SecretName::is_shared(self)
    }
}

impl Part for Arc<Path> {
    fn text(&self) -> &str {
        self.as_str()
    }

    fn is_shared(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl Part for Template {
    fn text(&self) -> &str {
        self.as_str()
    }

    fn is_shared(&self) -> bool {
        Template::is_shared(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_as_long_as_somebody_has_it() {
        let mut shared = Shared::default();
        let (one, other) = (shared.text("lms.lead_sold"), shared.text("lms.lead_sold"));
        assert!(Arc::ptr_eq(&one, &other));
        for number in 0..10 * KEPT_MIN {
            shared.template(&format!("{{{{$.price}}}} {number}")).unwrap();
            shared.text(&number.to_string());
        }
        assert!(shared.templates.parts.len() <= KEPT_MIN && shared.texts.parts.len() <= KEPT_MIN);
        assert!(Arc::ptr_eq(&one, &shared.text("lms.lead_sold")));
        let held: Vec<_> = (0..10 * KEPT_MIN)
            .map(|number| shared.text(&number.to_string()))
            .collect();
        for (number, text) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(text, &shared.text(&number.to_string())));
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_kept() {
        let mut shared = Shared::default();
        assert!(shared.path("$.").is_err() && shared.template("{{").is_err());
        assert!(shared.path("$.").is_err() && shared.template("{{").is_err());
        assert_eq!((shared.paths.parts.len(), shared.templates.parts.len()), (0, 0));
    }
}
