//! The left side of the editor: which leads the rule is for, and its filters.

use maud::{Markup, html};

use super::Page;
use super::controls::{Field, id_of};
use crate::desk::form::{self, Offered};
use crate::rules::sentence::Named;
use crate::rules::words::{self, TRIGGERS};
use crate::rules::{Level, Party};
use crate::web::page::icon;

/// More ids than these stand in one box, with commas between.
const CHIPS_MAX: usize = 30;
pub(super) const LEVELS: [(&str, &str); 4] = [
    ("product", "A product"),
    ("campaign", "A campaign"),
    ("publisher", "A publisher"),
    ("inlet", "An inlet"),
];
const PRICE_WORDS: [(&str, &str); 5] = [
    ("gte", "at least"),
    ("gt", "more than"),
    ("lte", "at most"),
    ("lt", "less than"),
    ("between", "from … to …"),
];
const METHODS: &str = "POST is the API, FORM a form; several with commas between";

impl Page<'_> {
    /// All fields of the form.
    pub(super) fn fields(&self) -> Markup {
        html! {
            div #fields {
                (self.kept())
                (self.subject())
                (self.only_when())
                (self.then())
            }
        }
    }

    /// What goes through the form unseen, and what is said of it.
    fn kept(&self) -> Markup {
        let is_unseen = |name: &str| {
            name == "status" || name.starts_with("keep.") || name.starts_with("sealed_at.") || name.ends_with(".sealed")
        };
        let kept: Vec<String> = self.editing.kept.iter().map(|path| words::label(path)).collect();
        html! {
            @for (name, value) in self.editing.fields.iter().filter(|(name, _)| is_unseen(name)) {
                input type="hidden" name=(name) value=(value);
            }
            @if !kept.is_empty() {
                div.banner {
                    (icon("note"))
                    div { b { "Only the YAML view shows " (kept.join(", ")) ". " } "It stays as it is when you save here." }
                }
            }
        }
    }

    fn subject(&self) -> Markup {
        let trigger = self.editing.value("trigger");
        let level = self.editing.level();
        let known = self.names.all(Named::Scope(level));
        let triggers = TRIGGERS.map(|trigger| (trigger.name, trigger.label));
        let is_known = words::trigger(trigger).is_some();
        html! {
            section.panel aria-labelledby="which" {
                header { h2 #which { "Which leads" } p { "What happens, and where." } }
                fieldset.fset disabled[self.is_read_only()] {
                    legend.vh { "Name, trigger and level" }
                    div.two {
                        (self.line(Field { name: "name", label: "Name", hint: "What people call it", ..Field::default() }))
                        @if self.editing.id.is_none() {
                            (self.line(Field { name: "id", label: "Id", hint: "Stays for good. Left blank, it is made of the name", class: "mono", ..Field::default() }))
                        }
                    }
                    div.two {
                        div.field {
                            label for=(id_of("trigger")) { "When" }
                            @let field = Field { name: "trigger", hint: if is_known { "" } else { "A trigger of your own, as the events name it" }, ..Field::default() };
                            @if is_known || trigger.is_empty() {
                                (self.select(field, trigger, &triggers, true))
                            } @else {
                                (self.input(Field { class: "mono", ..field }, trigger))
                                p.hint #f-trigger-h { (field.hint) }
                            }
                            (self.errors("trigger"))
                        }
                        div.field {
                            label for=(id_of("scope.level")) { "In" }
                            (self.select(Field { name: "scope.level", ..Field::default() }, self.editing.value("scope.level"), &LEVELS, true))
                            (self.errors("scope.level"))
                        }
                        div.field {
                            label for=(id_of("scope.id")) { @match level { Level::Inlet => "Its name", _ => "Its id" } }
                            input type="text" id=(id_of("scope.id")) name="scope.id" value=(self.editing.value("scope.id")) list="scope-ids"
                                autocomplete="off" autofocus[self.is_focus("scope.id")]
                                aria-invalid=[self.is_wrong("scope.id").then_some("true")] aria-describedby=[self.described("scope.id", true)];
                            datalist #scope-ids {
                                @if level == Level::Inlet { @for inlet in &self.web.config.inlets { option value=(inlet.name) {} } }
                                @for (id, name) in known { option value=(id) { (name) } }
                            }
                            (self.errors("scope.id"))
                            p.hint id=(format!("{}-h", id_of("scope.id"))) { "An asterisk, *, is any" }
                        }
                    }
                    label.check for=(id_of("include_test")) {
                        input type="checkbox" id=(id_of("include_test")) name="include_test" value="true" checked[self.editing.value("include_test") == "true"];
                        "Test leads count too"
                    }
                    p { (self.order("do", "show", "btn s", "Show its fields: those of this trigger, level and action", &html! { "Show its fields" })) }
                }
            }
        }
    }

    fn only_when(&self) -> Markup {
        let trigger = self.editing.value("trigger");
        let offered = form::offered(trigger, self.editing.level());
        html! {
            section.panel aria-labelledby="when" {
                header { h2 #when { "Only when" } p { "All of these must hold. With none, every event of the trigger there matches." } }
                fieldset.fset disabled[self.is_read_only()] {
                    legend.vh { "Filters" }
                    @if self.editing.has("filters.method") { (self.ids("method", "Method", None, METHODS)) }
                    @for party in Party::ALL {
                        @let name = party.as_str();
                        @if self.editing.has(&format!("filters.{name}")) {
                            (self.ids(name, &words::label(&format!("filters.{name}")), Some(party), ""))
                        }
                    }
                    @if self.editing.has("filters.price.op") { (self.price(&offered)) }
                    @for row in self.editing.rows("where") { (self.condition(row)) }
                    (self.adders(&offered))
                    @if !offered.call { p.hint { (icon("note")) " Fields of a call are not offered: a lead of the LMS has none." } }
                }
            }
        }
    }

    /// What can be added.
    fn adders(&self, offered: &Offered) -> Markup {
        let plus = |words: &str| html! { (icon("plus")) (words) };
        html! {
            div {
                p.small.sub #more { "Add a filter" }
                div.adders.after role="group" aria-labelledby="more" {
                    @if !self.editing.has("filters.method") { (self.order("add", "method", "btn s", "Add the filter Method", &plus("Method"))) }
                    @for party in &offered.parties {
                        @let name = party.as_str();
                        @let label = words::label(&format!("filters.{name}"));
                        @if !self.editing.has(&format!("filters.{name}")) {
                            (self.order("add", name, "btn s", &format!("Add the filter {label}"), &plus(&label)))
                        }
                    }
                    @if let Some(price) = offered.price.as_ref().filter(|_| !self.editing.has("filters.price.op")) {
                        (self.order("add", "price", "btn s", &format!("Add the filter {price}"), &plus(price)))
                    }
                    (self.order("add", "where", "btn s", "Add a condition on any other field", &plus("Any other field")))
                }
            }
        }
    }

    /// A filter of ids: one chip each, and a box for more.
    fn ids(&self, name: &str, label: &str, party: Option<Party>, hint: &str) -> Markup {
        let path = format!("filters.{name}");
        let read = form::form(&serde_json::json!({"filters": {name: self.editing.rule()["filters"][name]}}));
        let ids: Vec<&String> = read
            .fields
            .iter()
            .filter(|(field, _)| *field == path)
            .map(|(_, id)| id)
            .collect();
        let known = party
            .map(|party| self.names.all(Named::Party(party)))
            .unwrap_or_default();
        let shown = |id: &str| {
            let found = party.and_then(|party| self.names.get(Named::Party(party), id));
            found.map_or_else(|| id.to_owned(), |found| format!("{found} · {id}"))
        };
        let (group, list) = (format!("{}-l", id_of(&path)), format!("{}-d", id_of(&path)));
        let describes = self.described(&path, !hint.is_empty());
        html! {
            div.frow role="group" aria-labelledby=(group) {
                span.lab id=(group) { (label) }
                div.ctl {
                    @if ids.len() > CHIPS_MAX {
                        textarea id=(id_of(&path)) name=(path) rows="4" aria-label=(format!("Ids for {label}, with commas between")) aria-describedby=[describes] {
                            (ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", "))
                        }
                    } @else {
                        @for id in &ids {
                            span.chip {
                                (shown(id)) input type="hidden" name=(path) value=(id);
                                (self.order("drop", &format!("{path}={id}"), "", &format!("Remove {}", shown(id)), &icon("x")))
                            }
                        }
                        input type="text" id=(id_of(&path)) name=(path) list=[(!known.is_empty()).then_some(&list)] class="w-m" autocomplete="off"
                            aria-label=(if party.is_some() { format!("Add an id to {label}") } else { format!("Add to {label}") })
                            autofocus[self.is_focus(&path)] aria-invalid=[self.is_wrong(&path).then_some("true")] aria-describedby=[describes];
                        @if !known.is_empty() { datalist id=(list) { @for (id, name) in known { option value=(id) { (name) } } } }
                    }
                }
                (self.order("remove", name, "x", &format!("Remove the filter {label}"), &icon("x")))
                @if self.is_wrong(&path) || !hint.is_empty() {
                    div.below {
                        (self.errors(&path))
                        @if !hint.is_empty() { p.hint id=(format!("{}-h", id_of(&path))) { (hint) } }
                    }
                }
            }
        }
    }

    fn price(&self, offered: &Offered) -> Markup {
        let label = words::price_label(self.editing.value("trigger"));
        let held = self.editing.value("filters.price.op");
        let operators: Vec<(&str, &str)> = PRICE_WORDS
            .into_iter()
            .filter(|(operator, _)| offered.price_operators.contains(operator) || *operator == held)
            .collect();
        let (low, high) = (
            self.editing.value("filters.price.a"),
            self.editing.value("filters.price.b"),
        );
        let is_range = held == "between";
        let name = |name: &'static str| Field {
            name,
            class: "w-s",
            ..Field::default()
        };
        html! {
            div.frow role="group" aria-labelledby="price-l" {
                span.lab #price-l { (label) }
                div.ctl {
                    label.vh for=(id_of("filters.price.op")) { "How to compare" }
                    (self.select(name("filters.price.op"), held, &operators, true))
                    label.vh for=(id_of("filters.price.a")) { @if is_range { "The lower end" } @else { "The amount" } }
                    (self.input(name("filters.price.a"), low))
                    @if is_range {
                        span aria-hidden="true" { "to" }
                        label.vh for=(id_of("filters.price.b")) { "The upper end" }
                        (self.input(name("filters.price.b"), high))
                    } @else if !high.is_empty() {
                        input type="hidden" name="filters.price.b" value=(high);
                    }
                }
                (self.order("remove", "price", "x", &format!("Remove the filter {label}"), &icon("x")))
                div.below {
                    (self.errors("filters.price.a"))
                    (self.errors("filters.price.b"))
                    (self.errors("filters.price.op"))
                    p.hint {
                        "In the lead’s own currency."
                        @if is_range { " Both ends count." }
                        @if offered.price.is_none() { " Nobody bought a rejected lead, so that it has no price." }
                        @else if !offered.price_operators.contains(&"between") { " A range is for sold leads and campaigns that bought one." }
                    }
                }
            }
        }
    }

    fn condition(&self, row: usize) -> Markup {
        let keep = format!("keep.where.{row}");
        if self.editing.has(&keep) {
            return html! {
                div.frow {
                    span.lab { "A condition" }
                    div.ctl { span.muted { "Only the YAML view shows it" } }
                    (self.order("remove", &format!("where.{row}"), "x", "Remove this condition", &icon("x")))
                }
            };
        }
        let (path, value) = (format!("where.{row}.path"), format!("where.{row}.value"));
        let compare = format!("where.{row}.op");
        let operators: Vec<&str> = self.editing.all(&compare).collect();
        let written: Vec<&str> = self.editing.all(&value).collect();
        let what = words::path_words(self.editing.value(&path)).unwrap_or_else(|| "Another field".to_owned());
        html! {
            div.frow role="group" aria-label=(format!("Condition on {what}")) {
                label for=(id_of(&path)) { (what) }
                div.ctl {
                    (self.input(Field { name: &path, class: "w-m mono", placeholder: "$.consumer.state", ..Field::default() }, self.editing.value(&path)))
                    @for (at, operator) in operators.iter().enumerate() {
                        @let held = written.get(at).copied().unwrap_or_default();
                        @let id = if at == 0 { id_of(&value) } else { format!("{}-{at}", id_of(&value)) };
                        select name=(compare) aria-label=(format!("How to compare {what}")) {
                            @for (name, words) in words::OPERATORS { option value=(name) selected[name == operator] { (words) } }
                        }
                        @if *operator == "exists" {
                            select id=(id) name=(value) aria-label=(format!("Whether {what} has a value")) {
                                option value="true" selected[held != "false"] { "yes" }
                                option value="false" selected[held == "false"] { "no" }
                            }
                        } @else {
                            input type="text" id=(id) name=(value) value=(held) class="w-m" autocomplete="off" aria-label=(format!("Value for {what}"))
                                aria-invalid=[self.is_wrong(&value).then_some("true")] aria-describedby=[self.described(&value, false)] autofocus[at == 0 && self.is_focus(&value)];
                        }
                    }
                }
                (self.order("remove", &format!("where.{row}"), "x", &format!("Remove the condition on {what}"), &icon("x")))
                @if self.is_wrong(&path) || self.is_wrong(&value) { div.below { (self.errors(&path)) (self.errors(&value)) } }
            }
        }
    }
}
