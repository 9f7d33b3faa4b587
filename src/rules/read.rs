//! Reads a rule from JSON values, and finds every problem at once. `Reader` reads one field, and `Action::read`
//! the fields that are an action's own.

use std::sync::Arc;

use serde_json::Value;

use super::condition::{Comparison, Condition, Operand, Test};
use super::{Filters, IdFilter, Level, Party, PriceFilter, Rule, Scope, Status, takes_range};
use crate::action::Action;
use crate::reader::{Object, Problem, Reader};

pub const RULE_FIELDS: &[&str] = &[
    "id",
    "name",
    "status",
    "scope",
    "trigger",
    "include_test",
    "filters",
    "action",
];
pub const SCOPE_FIELDS: &[&str] = &["level", "id"];
pub const FILTER_FIELDS: &[&str] = &[
    "method",
    "publisher",
    "channel",
    "source",
    "buyer",
    "campaign",
    "pingtree",
    "price",
    "where",
];
pub const PRICE_FIELDS: &[&str] = &["gt", "gte", "lt", "lte", "between"];
pub const CONDITION_FIELDS: &[&str] = &[
    "path",
    "eq",
    "ne",
    "in",
    "contains",
    "starts_with",
    "ends_with",
    "gt",
    "gte",
    "lt",
    "lte",
    "exists",
];
const STATUSES: &[(&str, Status)] = &[
    ("active", Status::Active),
    ("paused", Status::Paused),
    ("shadow", Status::Shadow),
];
const LEVELS: &[(&str, Level)] = &[
    ("product", Level::Product),
    ("campaign", Level::Campaign),
    ("publisher", Level::Publisher),
    ("inlet", Level::Inlet),
];
const METHODS: &[(&str, &str)] = &[("POST", "POST"), ("FORM", "FORM")];

impl Rule {
    /// Reads a rule from the JSON of its YAML, or says everything that is wrong with it.
    pub fn from_json(value: &Value) -> Result<Rule, Vec<Problem>> {
        Reader::default().rule(value)
    }
}

impl Reader {
    /// Reads a rule, which shares its texts with the others that this reader reads.
    pub(crate) fn rule(&mut self, value: &Value) -> Result<Rule, Vec<Problem>> {
        self.open_secrets("", value);
        match self.parts(value) {
            Some(rule) if self.is_clean() => Ok(rule),
            _ => Err(self.problems()),
        }
    }

    fn parts(&mut self, value: &Value) -> Option<Rule> {
        let rule = self.object("", value, RULE_FIELDS)?;
        let id = self
            .required(&rule, "id", "name the rule")
            .and_then(|value| self.rule_id(value));
        let name = self.text(&rule, "name").map(Into::into);
        let status = self.choice(&rule, "status", STATUSES);
        let trigger = self.required(&rule, "trigger", "say what it waits for, such as lms.lead_sold");
        let trigger = trigger.and_then(|_| self.shared_text(&rule, "trigger"));
        let scope = self.required(
            &rule,
            "scope",
            "write {level: product, id: \"12\"}, or id: \"*\" for every one",
        );
        let scope_object = scope.and_then(|value| self.object("scope", value, SCOPE_FIELDS));
        let level = scope_object.as_ref().and_then(|object| self.level(object));
        let scope_id = scope_object.as_ref().and_then(|object| self.scope_id(object));
        let include_test = self.flag(&rule, "include_test");
        let filters = rule
            .get("filters")
            .and_then(|value| self.object("filters", value, FILTER_FIELDS));
        if let Some(filters) = &filters {
            self.contradictions(filters, level, trigger.as_deref());
        }
        let filters = filters.map(|filters| self.filters(&filters)).unwrap_or_default();
        let action = self.required(&rule, "action", "say what a match becomes")?;
        let action = Action::read(self, action);
        Some(Rule {
            id: id?,
            name,
            status: status.unwrap_or(Status::Active),
            scope: Scope {
                level: level?,
                id: scope_id?,
            },
            trigger: trigger?,
            include_test: include_test.unwrap_or(false),
            filters,
            action: action?,
        })
    }

    fn rule_id(&mut self, value: &Value) -> Option<Arc<str>> {
        match value.as_str().filter(|id| super::is_rule_id(id)) {
            Some(id) => Some(id.into()),
            None => self.refuse("id", "needs 1 to 64 of a-z, 0-9 and -, as text and not starting with -"),
        }
    }

    fn level(&mut self, scope: &Object<'_>) -> Option<Level> {
        self.required(scope, "level", "write product, campaign, publisher or inlet")?;
        self.choice(scope, "level", LEVELS)
    }

    /// `Some(None)` is every one.
    fn scope_id(&mut self, scope: &Object<'_>) -> Option<Option<Box<str>>> {
        let value = self.required(scope, "id", "write the id, or \"*\" for every one")?;
        let id = self.id(&scope.at("id"), value)?;
        Some((id != "*").then(|| id.into()))
    }

    /// Filters that can't stand together with the rule's level or trigger.
    fn contradictions(&mut self, filters: &Object<'_>, level: Option<Level>, trigger: Option<&str>) {
        let implied = level.map_or(&[][..], Level::implied).iter().map(|party| party.as_str());
        for name in implied.filter(|name| filters.get(name).is_some()) {
            let level = level.map_or("", Level::as_str);
            let message = format!("a {level}-level rule has no {name} filter, its scope says it already; leave it out");
            self.refuse::<()>(filters.at(name), message);
        }
        let between = filters.get("price").and_then(|price| price.get("between"));
        if between.is_some_and(|between| !between.is_null()) && trigger.is_some_and(|trigger| !takes_range(trigger)) {
            let message = "only lead_sold and campaign_sold take a range; use one of gt, gte, lt and lte";
            self.refuse::<()>("filters.price.between", message);
        }
    }

    fn filters(&mut self, filters: &Object<'_>) -> Filters {
        let method = filters
            .get("method")
            .map(|value| self.methods(value))
            .unwrap_or_default();
        let mut ids = Vec::new();
        for party in Party::ALL {
            if let Some(value) = filters.get(party.as_str()) {
                let any_of = self.ids(&filters.at(party.as_str()), value);
                ids.push(IdFilter { party, any_of });
            }
        }
        let price = filters.get("price").and_then(|value| self.price(value));
        let conditions = filters
            .get("where")
            .map(|value| self.conditions("filters.where", value))
            .unwrap_or_default();
        Filters {
            method,
            ids: ids.into(),
            price,
            conditions: conditions.into(),
        }
    }

    fn methods(&mut self, value: &Value) -> Box<[&'static str]> {
        let elements = self.one_or_list("filters.method", value, "write POST, FORM or leave it out");
        let methods = elements
            .into_iter()
            .filter_map(|(field, value)| self.choice_of(&field, value, METHODS));
        methods.collect()
    }

    fn ids(&mut self, field: &str, value: &Value) -> Box<[Box<str>]> {
        let elements = self.one_or_list(field, value, "write an id or leave the filter out");
        elements
            .into_iter()
            .filter_map(|(field, value)| self.id(&field, value).map(Into::into))
            .collect()
    }

    fn price(&mut self, value: &Value) -> Option<PriceFilter> {
        if !value.is_object() {
            return self.refuse("filters.price", "needs a comparison, such as {gte: 25}");
        }
        let price = self.object("filters.price", value, PRICE_FIELDS)?;
        let name = self.exactly_one(&price, PRICE_FIELDS)?;
        let (field, value) = (price.at(name), price.get(name)?);
        let Some(comparison) = comparison(name) else {
            return self.between(&field, value);
        };
        Some(PriceFilter::Compare(comparison, self.number(&field, value)?))
    }

    fn between(&mut self, field: &str, value: &Value) -> Option<PriceFilter> {
        let Some([low, high]) = value.as_array().map(Vec::as_slice) else {
            return self.refuse(field, "needs its two ends, such as [10, 99.5]");
        };
        let low = self.number(&format!("{field}[0]"), low);
        let high = self.number(&format!("{field}[1]"), high);
        let (low, high) = (low?, high?);
        if low > high {
            return self.refuse(
                field,
                "its ends are crossed, so that nothing lies between; write the smaller one first",
            );
        }
        Some(PriceFilter::Between(low, high))
    }

    pub(crate) fn conditions(&mut self, field: &str, value: &Value) -> Vec<Condition> {
        let Some(list) = value.as_array() else {
            self.refuse::<()>(
                field,
                "needs a list of conditions, such as [{path: $.consumer.state, eq: TX}]",
            );
            return Vec::new();
        };
        let fields = (0..).map(|at| format!("{field}[{at}]"));
        list.iter()
            .zip(fields)
            .filter_map(|(value, field)| self.condition(&field, value))
            .collect()
    }

    fn condition(&mut self, field: &str, value: &Value) -> Option<Condition> {
        let condition = self.object(field, value, CONDITION_FIELDS)?;
        let path = self.required(&condition, "path", "name a field, such as $.consumer.state");
        let path = path
            .and_then(|_| self.text(&condition, "path"))
            .and_then(|text| match self.shared.path(text) {
                Ok(path) => Some(path),
                Err(error) => self.refuse(condition.at("path"), error.to_string()),
            });
        let mut tests = Vec::new();
        for (name, value) in condition
            .members
            .iter()
            .filter(|(name, _)| CONDITION_FIELDS[1..].contains(&name.as_str()))
        {
            tests.push(self.test(&condition.at(name), name, value));
        }
        if tests.is_empty() {
            return self.refuse(field, format!("needs one of {}", CONDITION_FIELDS[1..].join(", ")));
        }
        Some(Condition {
            path: path?,
            tests: tests.into_iter().collect::<Option<_>>()?,
        })
    }

    fn test(&mut self, field: &str, name: &str, value: &Value) -> Option<Test> {
        if let Some(comparison) = comparison(name) {
            return Some(Test::Compare(comparison, self.number(field, value)?));
        }
        Some(match name {
            "eq" => Test::Eq(self.operand(field, value)?),
            "ne" => Test::Ne(self.operand(field, value)?),
            "contains" => Test::Contains(self.operand(field, value)?),
            "starts_with" => Test::StartsWith(self.part(field, value)?),
            "ends_with" => Test::EndsWith(self.part(field, value)?),
            "in" => match value.as_array() {
                Some(list) if !list.is_empty() => {
                    let fields = (0..).map(|at| format!("{field}[{at}]"));
                    let operands: Vec<_> = list
                        .iter()
                        .zip(fields)
                        .map(|(value, at)| self.operand(&at, value))
                        .collect();
                    Test::In(operands.into_iter().collect::<Option<_>>()?)
                }
                _ => return self.refuse(field, "needs a list of values, such as [TX, FL]"),
            },
            _ => match value.as_bool() {
                Some(wanted) => Test::Exists(wanted),
                None => return self.refuse(field, "needs true or false"),
            },
        })
    }

    fn operand(&mut self, field: &str, value: &Value) -> Option<Operand> {
        Some(match value {
            Value::Null => {
                return self.refuse(
                    field,
                    "null is no value to compare to; use exists: false or exists: true",
                );
            }
            Value::Bool(flag) => Operand::Bool(*flag),
            Value::Number(number) => Operand::Number(self.number(field, value)?, number.as_str().into()),
            Value::String(text) => Operand::Text(text.as_str().into()),
            Value::Array(_) | Value::Object(_) => Operand::Json(Box::new(value.clone())),
        })
    }

    /// Text to look for within a text; an unquoted number is taken as its text.
    fn part(&mut self, field: &str, value: &Value) -> Option<Box<str>> {
        match value {
            Value::String(text) => Some(text.as_str().into()),
            Value::Number(number) => Some(number.as_str().into()),
            _ => self.refuse(field, "needs text"),
        }
    }
}

fn comparison(name: &str) -> Option<Comparison> {
    Comparison::ALL
        .into_iter()
        .find(|comparison| comparison.as_str() == name)
}
