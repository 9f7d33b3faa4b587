//! Reads test files.

use serde_json::{Map, Value, json};

use super::{BODY, Case, Error, Expected, Form, Given, NOW, Problem, Record, Source, TestFile};
use crate::dates::time_text;
use crate::mapping::Inlet;
use crate::reader::{Object, Reader};
use crate::yaml;

const PARTS: &[&str] = &["rules", "inlets", "cases"];
const CASE_FIELDS: &[&str] = &[
    "name",
    "event",
    "inlet",
    "record",
    "body",
    "route",
    "content_type",
    "expect",
];
const RECORD_FIELDS: &[&str] = &["record", "body", "route", "content_type"];

pub(super) fn is_test_file(text: &str) -> bool {
    // Most texts aren't read twice.
    let documents = text
        .contains("cases")
        .then(|| yaml::documents(text).unwrap_or_default());
    documents
        .into_iter()
        .flatten()
        .any(|document| document.value.get("cases").is_some())
}

pub(super) fn read(text: &str) -> Result<TestFile, Error> {
    let documents = yaml::documents(text).map_err(|error| Error::invalid(error.to_string()))?;
    let [document] = &documents[..] else {
        return Err(Error::invalid("a test file is one YAML document with rules and cases"));
    };
    if document.value.get("cases").is_none() {
        return Err(Error::invalid(
            "is no test file: it has no cases; write rules: and cases: as docs/rules.md shows",
        ));
    }
    let mut reader = Reader::default();
    let file = reader.test_file(&document.value);
    match file {
        Some(file) if reader.is_clean() => Ok(file),
        _ => Err(Error::Invalid(
            reader.problems().into_iter().map(Problem::from).collect(),
        )),
    }
}

impl Reader {
    fn test_file(&mut self, value: &Value) -> Option<TestFile> {
        let object = self.object("", value, PARTS)?;
        self.required(&object, "rules", "name rule files, or write rules in place")?;
        let rules = self.list(&object, "rules");
        let rules = rules.into_iter().filter_map(|(field, rule)| match rule {
            Value::String(path) => Some(Source::Path(path.clone())),
            Value::Object(_) => Some(Source::Rule(rule.clone())),
            _ => self.refuse(field, "needs the path of a rule file, or a rule"),
        });
        let rules = rules.collect();
        let mut inlets: Vec<Inlet> = Vec::new();
        for (field, entry) in self.list(&object, "inlets") {
            match Inlet::read(&field, entry) {
                Ok(inlet) if inlets.iter().any(|other| other.name == inlet.name) => {
                    self.refuse::<()>(field, "another inlet has this name");
                }
                Ok(inlet) => inlets.push(inlet),
                Err(problems) => problems.into_iter().for_each(|problem| {
                    self.refuse::<()>(problem.field, problem.message);
                }),
            }
        }
        let written = self.list(&object, "cases");
        if written.is_empty() {
            self.refuse::<()>("cases", "there is none; write what is given and what is expected");
        }
        let cases = written.into_iter().enumerate();
        let cases = cases.filter_map(|(at, (field, case))| self.case(&field, case, at + 1));
        Some(TestFile {
            rules,
            inlets,
            cases: cases.collect(),
        })
    }

    /// A list's elements, each with its field; none where nothing is given.
    fn list<'v>(&mut self, object: &Object<'v>, name: &str) -> Vec<(String, &'v Value)> {
        match object.get(name) {
            None => Vec::new(),
            Some(Value::Array(list)) => {
                let field = object.at(name);
                let elements = list.iter().enumerate();
                elements.map(|(at, value)| (format!("{field}[{at}]"), value)).collect()
            }
            Some(_) => {
                self.refuse::<()>(object.at(name), "needs a list");
                Vec::new()
            }
        }
    }

    fn case(&mut self, field: &str, value: &Value, number: usize) -> Option<Case> {
        let case = self.object(field, value, CASE_FIELDS)?;
        let name = match case.get("name") {
            None => Some(format!("case {number}")),
            Some(_) => self.text(&case, "name").map(str::to_owned),
        };
        let given = match self.exactly_one(&case, &["event", "inlet"])? {
            "event" => {
                let foreign = RECORD_FIELDS.iter().find(|name| case.get(name).is_some());
                if let Some(name) = foreign {
                    self.refuse::<()>(case.at(name), "belongs to a case with an inlet; leave it out");
                }
                self.given_event(&case, number).map(Given::Event)
            }
            _ => self.record(&case).map(Given::Record),
        };
        let cure = "write what matches, or [] where nothing does";
        self.required(&case, "expect", cure)?;
        let expect = self.list(&case, "expect");
        let expect = expect
            .into_iter()
            .filter_map(|(field, expected)| self.expected(&field, expected));
        let expect = expect.collect();
        Some(Case {
            name: name?,
            given: given?,
            expect,
        })
    }

    /// The event with its defaults.
    fn given_event(&mut self, case: &Object<'_>, number: usize) -> Option<Vec<u8>> {
        let Some(Value::Object(written)) = case.get("event") else {
            return self.refuse(case.at("event"), "needs a lead event, with its trigger at least");
        };
        let defaults = json!({
            "event_id": format!("case-{number}"), "lead_id": format!("lead-{number}"), "occurred_at": time_text(NOW),
        });
        let mut event = written.clone();
        for (name, value) in defaults.as_object().into_iter().flatten() {
            event.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Some(Value::Object(event).to_string().into_bytes())
    }

    fn record(&mut self, case: &Object<'_>) -> Option<Record> {
        let inlet = self.text(case, "inlet").map(str::to_owned);
        let (body, form) = match self.exactly_one(case, &["record", "body"])? {
            "record" => {
                if case.get("content_type").is_some() {
                    self.refuse::<()>(case.at("content_type"), "belongs to a body; a record is JSON");
                }
                (case.get("record")?.to_string(), Form::Json)
            }
            _ => (
                self.text(case, "body")?.to_owned(),
                Form::Type(self.text(case, "content_type").map(str::to_owned)),
            ),
        };
        Some(Record {
            inlet: inlet?,
            route: self.text(case, "route").unwrap_or_default().to_owned(),
            body: body.into_bytes(),
            form,
        })
    }

    fn expected(&mut self, field: &str, value: &Value) -> Option<Expected> {
        let mut known = vec!["rule", "would", "detail", "to", "lane"];
        for (name, _) in BODY {
            if !known.contains(name) {
                known.push(name);
            }
        }
        known.push("body");
        let object = self.object(field, value, &known)?;
        let rule = self.required(&object, "rule", "name the rule that matches")?;
        let rule = self.id(&object.at("rule"), rule)?.to_owned();
        let mut fields: Map<String, Value> = object.members.clone();
        fields.shift_remove("rule");
        // As a rule has it, or the channel or member alone.
        if let Some(Value::Object(to)) = fields.get("to") {
            let to = to.get("channel").or(to.get("member")).cloned();
            fields.insert("to".to_owned(), to.unwrap_or_default());
        }
        Some(Expected { rule, fields })
    }
}
