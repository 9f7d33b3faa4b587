//! What stands around the form: title, status, faults, the sentence, and the bar to save with.

use maud::{Markup, html};

use super::Page;
use super::controls::id_of;
use crate::rules::sentence::sentence;
use crate::rules::words;
use crate::text::mask::mask;
use crate::web::page::icon;
use crate::web::page::part::{count, number, status};
use crate::web::page::words::fault;
use crate::web::problem::Problem;

impl Page<'_> {
    /// The rule's name, or what stands for it.
    pub(super) fn name(&self) -> String {
        let names = [
            self.editing.value("name").trim(),
            self.editing.id.as_deref().unwrap_or_default(),
        ];
        let name = names.into_iter().find(|name| !name.is_empty());
        name.unwrap_or("New rule").to_owned()
    }

    pub(super) fn title(&self) -> String {
        match &self.editing.id {
            Some(_) => format!("Edit {}", self.name()),
            None => "New rule".to_owned(),
        }
    }

    pub(super) fn body(&self) -> Markup {
        html! {
            (self.crumbs())
            (self.head())
            @if let Some(notice) = &self.notice { (notice) }
            @if let Some(why) = &self.locked { div.banner { (icon("lock")) div { (why) } } }
            (self.faults_above())
            (self.doubts())
            @if self.editing.id.is_none() { (steps(2)) }
            (self.sentence(false))
            (self.draft_kept())
            form.editor.after method="post" action=(self.address("")) novalidate
                data-draft=(self.editing.id.as_deref().unwrap_or_default()) data-typed[self.is_typed]
                hx-post=(self.address("/preview")) hx-trigger="input delay:400ms" hx-target="#preview" hx-swap="innerHTML"
                hx-params="not action.token.typed,action.url.typed" {
                // Enter in a field presses the first button.
                button.vh type="submit" name="do" value="show" tabindex="-1" aria-hidden="true" { "Show" }
                (self.look.token())
                input type="hidden" name="version" value=(self.editing.seen.map(|seen| seen.to_string()).unwrap_or_default());
                (self.fields())
                (self.aside())
                (self.save_bar())
            }
        }
    }

    fn crumbs(&self) -> Markup {
        html! {
            nav.crumbs aria-label="You are here" {
                ol { li { a href="/rules" { "Rules" } } li aria-current="page" { (self.name()) } }
            }
        }
    }

    fn head(&self) -> Markup {
        html! {
            div.head {
                div { h1 { (self.name()) } (self.stands()) }
                div.row {
                    nav.seg aria-label="View" {
                        a href=(self.address("")) aria-current="true" { "Form" }
                        a href=(self.address("/yaml")) { "YAML" }
                    }
                    @if self.editing.id.is_some() { a.btn href=(self.address("/versions")) { "Versions" } }
                    (self.orders())
                }
            }
        }
    }

    /// How the rule in force stands, and who made it so.
    fn stands(&self) -> Markup {
        let Some(id) = &self.editing.id else {
            return html! { p { "It isn’t saved yet." } };
        };
        let Some((rule, version)) = super::in_force(self.web, id) else {
            return html! { p { (status("off", "trash", "Deleted meanwhile")) } };
        };
        let cant_send = super::desk_rules::Draft::of(&self.web.config, rule.clone()).errors;
        let at = self
            .web
            .resident
            .rules()
            .view()
            .last(id)
            .filter(|last| last.offset == version);
        let author = self.web.resident.author(id, version);
        let shown = match (rule["status"].as_str(), cant_send.first()) {
            (Some("paused"), _) => status("off", "pause", "Paused"),
            (Some("shadow"), _) => status("wait", "half", "On trial"),
            (_, Some(why)) => html! { (status("bad", "stop", "Can’t send")) " " (why.to_string()) },
            _ => status("ok", "on", "Active"),
        };
        html! {
            p {
                (shown) " "
                span.muted {
                    "version " (version)
                    @if let Some(author) = author { " by " (author) }
                    @if let Some(at) = at { ", " (self.look.time(at.changed_at, self.now())) }
                }
            }
            @if rule["status"] == "shadow" { (self.trial(id)) }
        }
    }

    /// What a rule on trial would have sent.
    fn trial(&self, id: &str) -> Markup {
        let counts = self.web.resident.of_rule(id, self.now());
        let most = counts
            .hours
            .iter()
            .map(|(_, count)| count.matched)
            .max()
            .unwrap_or_default();
        html! {
            p {
                "It would have sent " b { (count(counts.matched, "message", "messages")) } " in the last 24 hours"
                @if most > 0 { ", at most " b { (number(most.into())) } " an hour" } "."
            }
        }
    }

    /// The buttons that change the status alone.
    fn orders(&self) -> Markup {
        let (Some(seen), Some(id)) = (self.editing.seen, &self.editing.id) else {
            return html! {};
        };
        let rule = super::in_force(self.web, id).map(|(rule, _)| rule).unwrap_or_default();
        let (order, shape, words) = match rule["status"].as_str() {
            Some("paused") => ("resume", "on", "Resume"),
            Some("shadow") => ("activate", "on", "Activate"),
            _ => ("pause", "pause", "Pause"),
        };
        html! {
            form.inline method="post" action=(self.address("/status")) {
                (self.look.token())
                input type="hidden" name="version" value=(seen);
                button.btn name="do" value=(order) disabled[self.is_read_only()] { (icon(shape)) (words) }
            }
        }
    }

    /// What a person calls the field of a problem.
    pub(super) fn editing_label(&self, place: &str) -> String {
        if let Some((row, _)) = place
            .strip_prefix("filters.where[")
            .and_then(|rest| rest.split_once(']'))
        {
            let row: usize = row.parse().unwrap_or_default();
            return format!("Condition {}", row.saturating_add(1));
        }
        if place.starts_with("filters.price") {
            return words::price_label(self.editing.value("trigger"));
        }
        let steps: Vec<&str> = place.split('.').collect();
        let depth = match steps.first() {
            Some(&"scope" | &"filters" | &"action") => 2,
            _ => 1,
        };
        let is_property = place.starts_with("action.properties.");
        let known = if is_property {
            place.to_owned()
        } else {
            steps[..depth.min(steps.len())].join(".")
        };
        match known.split('[').next() {
            Some("") | None => "The rule".to_owned(),
            Some(field) => words::label(field),
        }
    }

    /// Everything that keeps the rule from being saved, above the form. What has no field of its own leads to all of them.
    fn faults_above(&self) -> Markup {
        let told: Vec<_> = self.editing.told().collect();
        let title = match told.len() {
            0 => return html! {},
            1 => "One thing to fix before this rule can be saved".to_owned(),
            many => format!("{many} things to fix before this rule can be saved"),
        };
        let fields = self.fields().into_string();
        let field = |place: &str| {
            let id = id_of(&self.editing.field_of(place));
            Some(id).filter(|id| fields.contains(&format!(" id=\"{id}\"")))
        };
        let has_focus = told.len() > 1 || told.iter().any(|problem| field(&problem.place).is_none());
        html! {
            div.errsum role="alert" aria-labelledby="es" tabindex="-1" autofocus[has_focus] {
                h2 #es { (icon("warn")) (title) }
                ul {
                    @for problem in told {
                        li {
                            a href=(format!("#{}", field(&problem.place).unwrap_or_else(|| "fields".to_owned()))) {
                                (self.editing_label(&problem.place)) ": " (fault(&problem.message))
                            }
                        }
                    }
                }
            }
        }
    }

    /// What looks like a mistake, and may be saved.
    fn doubts(&self) -> Markup {
        let warnings = &self.editing.draft.warnings;
        let is_shown = self.editing.id.is_some() || self.editing.is_tried;
        html! {
            @if is_shown && !warnings.is_empty() {
                div.banner.warn {
                    (icon("warn"))
                    div {
                        b { "Look at this again: " }
                        ul { @for warning in warnings { li { (self.editing_label(&warning.place)) ": " (warning.message) } } }
                    }
                }
            }
        }
    }

    /// The rule in words. Beside another part it takes its place by itself.
    pub(super) fn sentence(&self, is_beside: bool) -> Markup {
        let parts = sentence(self.editing.rule(), &|named, id| self.names.get(named, id));
        html! {
            section.panel.pad #sentence aria-labelledby="words" hx-swap-oob=[is_beside.then_some("true")] {
                h2.vh #words { "The rule in words" }
                p.sentence {
                    @for part in &parts {
                        @match (&part.field, part.is_wrong) {
                            (None, _) => (part.text),
                            (Some(_), false) => b { (mask(&part.text)) },
                            (Some(field), true) => b.wrong title=(format!("{}: this can’t be saved", self.editing_label(field))) { (mask(&part.text)) },
                        }
                    }
                }
            }
        }
    }

    /// Where the script offers a draft that is kept in the browser. It posts its fields as they were typed.
    fn draft_kept(&self) -> Markup {
        html! {
            form.banner method="post" action=(self.address("")) hidden data-draft-offer {
                (icon("note"))
                div {
                    (self.look.token())
                    b { "Draft kept at " span data-draft-at {} ". " } "It has what you typed and did not save."
                    div.row { button.btn.s name="do" value="show" { "Take it" } button.btn.s.bare type="button" data-draft-drop { "Drop it" } }
                }
            }
        }
    }

    fn save_bar(&self) -> Markup {
        let held = self.editing.value("status");
        html! {
            div.savebar {
                button.btn.go name="do" value="save" disabled[self.is_read_only()] { "Save rule" }
                @if matches!(held, "shadow" | "paused") {
                    button.btn name="do" value="activate" disabled[self.is_read_only()] { (icon("on")) "Save and activate" }
                } @else {
                    button.btn name="do" value="trial" disabled[self.is_read_only()] { (icon("half")) "Save on trial" }
                }
                button.btn.bare name="do" value="yaml" formaction=(self.address("/yaml")) { "Show as YAML" }
                a.btn.bare href="/rules" { "Leave" }
                span.grow {}
                span.small.muted {
                    @match held { "paused" => "It stays paused. ", "shadow" => "It stays on trial. ", _ => "" }
                    span data-draft-note {}
                }
            }
        }
    }

    /// What was just done. The script drops the draft of it.
    pub(super) fn done(&self, done: &str) -> Markup {
        let id = self.editing.id.as_deref().unwrap_or_default();
        let words = match (done, self.editing.value("status")) {
            ("status", "paused") => "Paused. It matches nothing until it is resumed.",
            ("status", _) => "Active. It matches from now on.",
            (_, "paused") => "Saved. It stays paused.",
            (_, "shadow") => "Saved on trial. Matches are counted, and nothing is sent.",
            _ => "Saved. It is in force now.",
        };
        let drops = match done {
            "new" => Some(""),
            "1" => Some(id),
            _ => None,
        };
        html! {
            div.banner.ok role="status" data-saved=[drops] {
                (icon("check"))
                div { b { (words) } @if let Some(version) = self.editing.seen { " Version " (version) "." } }
            }
        }
    }

    /// It could not be saved for now.
    pub(super) fn unsaved(&self, problem: &Problem) -> Markup {
        html! {
            div.banner.bad role="alert" {
                (icon("warn"))
                div { b { "It isn’t saved. What you typed is still here. " } (problem.detail) }
            }
        }
    }
}

/// The two steps to a new rule.
pub(super) fn steps(at: u8) -> Markup {
    html! {
        ol.steps.sec aria-label="Steps" {
            li aria-current=[(at == 1).then_some("step")] {
                span.n { @if at > 1 { (icon("check")) } @else { "1" } }
                @if at > 1 { a href="/rules/new" { "Trigger and action" } } @else { "Trigger and action" }
            }
            li aria-current=[(at == 2).then_some("step")] { span.n { "2" } "Settings" }
        }
    }
}
