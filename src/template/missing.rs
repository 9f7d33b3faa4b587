//! What an event lacks of what a template asks for, for who shows that before anything is sent.

use super::{Filter, Head, Part, Placeholder, Template};
use crate::lead::Lookup;
use crate::path::Path;

impl Template {
    /// The paths that the event has no value for, and that no `default` stands in for, in order, each once.
    pub fn missing<'t>(&'t self, event: &dyn Lookup) -> Vec<&'t Path> {
        let mut missing = Vec::new();
        for path in self.0.parts.iter().filter_map(|part| part.missing(event)) {
            if !missing.contains(&path) {
                missing.push(path);
            }
        }
        missing
    }

    /// The template with a mark in place of each placeholder that is missing.
    #[must_use]
    pub fn marked(&self, event: &dyn Lookup, mark: impl Fn(&Path) -> String) -> Self {
        let marked = |path: &Path| Placeholder {
            head: Head::Text(mark(path).into()),
            filters: Box::default(),
        };
        let parts = self.0.parts.iter().map(|part| match part.missing(event) {
            Some(path) => Part::Placeholder(marked(path)),
            None => part.clone(),
        });
        let parts: Vec<Part> = parts.collect();
        Self::of_parts(&self.0.text, parts)
    }
}

impl Part {
    /// The path that an event has no value for, where nothing stands in for it.
    fn missing(&self, event: &dyn Lookup) -> Option<&Path> {
        let Part::Placeholder(placeholder) = self else {
            return None;
        };
        let Head::Path(path) = &placeholder.head else {
            return None;
        };
        let stands_in = |filter: &Filter| matches!(filter, Filter::Default(_));
        (event.lookup(path).is_none() && !placeholder.filters.iter().any(stands_in)).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::OnMissing;

    /// A record with some values.
    struct Record(serde_json::Value);

    impl Lookup for Record {
        fn lookup(&self, path: &Path) -> Option<crate::lead::Value<'_>> {
            crate::lead::Value::of_json(path.follow(&self.0)?)
        }
    }

    #[test]
    fn what_lacks_is_named_and_marked_in_its_place() {
        let record = Record(serde_json::json!({"a": 1, "none": null, "empty": ""}));
        let text = "{{$.a}} {{$.b | upper}} {{$.none}} {{$.empty}} {{$.c | default: \"x\"}} {{$.b | number: 2}} <http://x/{{$.d}}|y>";
        let template = Template::parse(text).unwrap();
        let missing: Vec<&str> = template.missing(&record).iter().map(|path| path.as_str()).collect();
        assert_eq!(missing, ["$.b", "$.none", "$.d"]);
        let marked = template.marked(&record, |path| format!("[{path}]"));
        let rendered = marked.render_slack(&record, OnMissing::Fail, 4000).unwrap();
        assert_eq!(rendered.text, "1 [$.b] [$.none]  x [$.b] <http://x/[$.d]|y>");
        assert!(!rendered.is_cut && marked.missing(&record).is_empty());
    }
}
