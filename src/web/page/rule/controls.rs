//! The controls of the form, each with its label, its hint and what is wrong with it.

use maud::{Markup, html};

use super::Page;
use crate::web::page::icon;
use crate::web::page::words::fault;

/// The id of a field's control.
pub(super) fn id_of(name: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("f-{}", name.chars().map(word).collect::<String>())
}

/// What a field is called, and what helps to fill it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Field<'f> {
    pub(super) name: &'f str,
    pub(super) label: &'f str,
    pub(super) hint: &'f str,
    pub(super) class: &'f str,
    pub(super) placeholder: &'f str,
    /// Placeholders may stand in it.
    pub(super) is_template: bool,
}

impl Page<'_> {
    /// What is wrong with a field.
    fn faults(&self, name: &str) -> Vec<&str> {
        let told = self.editing.told();
        let own = told.filter(|problem| self.editing.field_of(&problem.place) == name);
        own.map(|problem| fault(&problem.message)).collect()
    }

    pub(super) fn is_wrong(&self, name: &str) -> bool {
        !self.faults(name).is_empty()
    }

    /// What is wrong with a field, below it.
    pub(super) fn errors(&self, name: &str) -> Markup {
        let faults = self.faults(name);
        html! {
            @if !faults.is_empty() {
                p.err id=(format!("{}-e", id_of(name))) { (icon("warn")) span { (faults.join("; ")) } }
            }
        }
    }

    /// The ids of what describes a field.
    pub(super) fn described(&self, name: &str, has_hint: bool) -> Option<String> {
        let id = id_of(name);
        let error = self.is_wrong(name).then(|| format!("{id}-e"));
        let hint = has_hint.then(|| format!("{id}-h"));
        let all: Vec<String> = error.into_iter().chain(hint).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }

    pub(super) fn is_focus(&self, name: &str) -> bool {
        self.focus.as_deref() == Some(name)
    }

    /// The control alone, for who labels it elsewhere.
    pub(super) fn input(&self, field: Field<'_>, value: &str) -> Markup {
        html! {
            input type="text" id=(id_of(field.name)) name=(field.name) value=(value) class=(field.class)
                placeholder=[(!field.placeholder.is_empty()).then_some(field.placeholder)]
                autocomplete="off" autofocus[self.is_focus(field.name)] data-template[field.is_template]
                aria-invalid=[self.is_wrong(field.name).then_some("true")]
                aria-describedby=[self.described(field.name, !field.hint.is_empty())];
        }
    }

    /// A field of one line.
    pub(super) fn line(&self, field: Field<'_>) -> Markup {
        self.around(field, &self.input(field, self.editing.value(field.name)))
    }

    /// A field of several lines.
    pub(super) fn lines(&self, field: Field<'_>, rows: usize) -> Markup {
        let control = html! {
            textarea id=(id_of(field.name)) name=(field.name) rows=(rows) spellcheck="true" class=(field.class)
                autofocus[self.is_focus(field.name)] data-template[field.is_template]
                aria-invalid=[self.is_wrong(field.name).then_some("true")]
                aria-describedby=[self.described(field.name, !field.hint.is_empty())] {
                // A browser leaves out the first line break of a text.
                "\n" (self.editing.value(field.name))
            }
        };
        self.around(field, &control)
    }

    /// A choice of values, each with its words. A value that is none of them stays one.
    pub(super) fn choice(&self, field: Field<'_>, options: &[(&str, &str)]) -> Markup {
        self.around(
            field,
            &self.select(field, self.editing.value(field.name), options, false),
        )
    }

    pub(super) fn select(&self, field: Field<'_>, held: &str, options: &[(&str, &str)], redraws: bool) -> Markup {
        let is_known = options.iter().any(|(value, _)| *value == held);
        html! {
            select id=(id_of(field.name)) name=(field.name) class=(field.class) autofocus[self.is_focus(field.name)]
                aria-invalid=[self.is_wrong(field.name).then_some("true")]
                aria-describedby=[self.described(field.name, !field.hint.is_empty())]
                hx-post=[redraws.then(|| self.address(""))] hx-target=[redraws.then_some("#fields")]
                hx-swap=[redraws.then_some("outerHTML")] hx-params=[redraws.then_some("*")] {
                @if !is_known && !held.is_empty() { option value=(held) selected { (held) } }
                @for (value, words) in options { option value=(value) selected[*value == held] { (words) } }
            }
        }
    }

    fn around(&self, field: Field<'_>, control: &Markup) -> Markup {
        html! {
            div.field {
                label for=(id_of(field.name)) { (field.label) }
                (control)
                (self.errors(field.name))
                @if !field.hint.is_empty() { p.hint id=(format!("{}-h", id_of(field.name))) { (field.hint) } }
            }
        }
    }

    /// A button that shows the form again with something more or less in it.
    pub(super) fn order(&self, name: &str, value: &str, class: &str, words: &str, shown: &Markup) -> Markup {
        html! {
            button class=(class) name=(name) value=(value) aria-label=(words)
                hx-post=(self.address("")) hx-target="#fields" hx-swap="outerHTML" hx-params="*" { (shown) }
        }
    }
}
