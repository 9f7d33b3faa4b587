//! What the rule does: where it goes, what it says, and how it is paced.

use maud::{Markup, html};

use super::Page;
use super::controls::{Field, id_of};
use crate::action::ActionType;
use crate::desk::form;
use crate::web::names::Name;
use crate::web::page::icon;

/// The actions as people call them.
pub(super) const ACTIONS: [(&str, &str); 4] = [
    ("slack_message", "Post to Slack as an app"),
    ("slack_webhook", "Post to Slack through a webhook"),
    ("clevertap_profile", "Write a CleverTap profile"),
    ("clevertap_event", "Write a CleverTap event"),
];
const MISSING: [(&str, &str); 4] = [
    ("", "Write nothing in its place"),
    ("empty", "Write nothing in its place (said so)"),
    ("skip", "Send no message"),
    ("fail", "Make it a dead letter"),
];
const AMBIGUOUS: [(&str, &str); 3] = [
    ("", "As usual: send again"),
    ("retry", "Send again: it may arrive twice"),
    ("dead", "Make it a dead letter: it may never arrive"),
];
const OVER_LONG: [(&str, &str); 3] = [
    ("", "Cut it"),
    ("truncate", "Cut it (said so)"),
    ("fail", "Make it a dead letter"),
];
const UNFURL: [(&str, &str); 3] = [
    ("", "As Slack does by itself"),
    ("true", "Show them"),
    ("false", "Leave them out"),
];
const THREAD: [(&str, &str); 2] = [("", "A message of its own"), ("lead", "Into the lead’s thread")];

fn line<'f>(name: &'f str, label: &'f str, hint: &'f str) -> Field<'f> {
    Field {
        name,
        label,
        hint,
        ..Field::default()
    }
}

impl Page<'_> {
    pub(super) fn then(&self) -> Markup {
        let held = self.editing.value("action.type");
        let action = ActionType::ALL.into_iter().find(|action| action.as_str() == held);
        let title = match action {
            Some(ActionType::SlackMessage | ActionType::SlackWebhook) => "Then post to Slack",
            Some(ActionType::ClevertapProfile | ActionType::ClevertapEvent) => "Then write to CleverTap",
            None => "Then",
        };
        html! {
            section.panel aria-labelledby="then" {
                header { h2 #then { (title) } }
                fieldset.fset disabled[self.is_read_only()] {
                    legend.vh { "Where it goes" }
                    div.two {
                        div.field {
                            label for=(id_of("action.type")) { "Action" }
                            (self.select(line("action.type", "", ""), held, &ACTIONS, true))
                            (self.errors("action.type"))
                        }
                        @match action {
                            Some(ActionType::SlackMessage) => (self.secret("action.token", "Slack app", "The token’s name in the secret store", "Or type a new token")),
                            Some(ActionType::SlackWebhook) => (self.secret("action.url", "Webhook", "The URL’s name in the secret store", "Or type a new URL")),
                            Some(_) => (self.account()),
                            None => {},
                        }
                    }
                    @if action == Some(ActionType::SlackMessage) { (self.to()) }
                    @if action == Some(ActionType::SlackWebhook) { (self.webhook()) }
                }
                @match action {
                    Some(ActionType::SlackMessage | ActionType::SlackWebhook) => (self.message()),
                    Some(action) => (self.record(action)),
                    None => {},
                }
                @if let Some(action) = action { (self.advanced(action)) }
            }
        }
    }

    /// A secret by its name in the store, or typed and sealed at once.
    fn secret(&self, path: &str, label: &str, name_label: &str, typed_label: &str) -> Markup {
        let (name, typed) = (format!("{path}.secret"), format!("{path}.typed"));
        let sealed_at = self.editing.value(&format!("sealed_at.{path}")).parse().ok();
        let is_sealed = self.editing.has(&format!("{path}.sealed"));
        let (id, error) = (id_of(&typed), self.is_wrong(&typed));
        html! {
            div.field role="group" aria-label=(label) {
                @if is_sealed {
                    p.small {
                        span.st.ok { (icon("lock")) @if let Some(at) = sealed_at { "sealed at " (self.look.time(at, self.now())) } @else { "a sealed value" } }
                        " " (self.order("remove", path, "btn s bare", &format!("Take the sealed value of {label} out"), &html! { "Take it out" }))
                    }
                } @else {
                    label for=(id_of(&name)) { (name_label) }
                    (self.input(Field { name: &name, class: "mono", ..Field::default() }, self.editing.value(&name)))
                }
                label for=(id) { (typed_label) }
                input type="password" id=(id) name=(typed) value="" autocomplete="new-password" autofocus[self.is_focus(&typed)]
                    aria-invalid=[error.then_some("true")] aria-describedby=[self.described(&typed, true)];
                (self.errors(&typed))
                p.hint id=(format!("{id}-h")) { (icon("lock")) " What you type is sealed at once and never shown again." }
            }
        }
    }

    fn to(&self) -> Markup {
        let kinds = [("channel", "A channel"), ("member", "A member, as a direct message")];
        html! {
            div.two {
                div.field {
                    label for=(id_of("action.to.kind")) { "Who gets it" }
                    (self.select(line("action.to.kind", "", ""), self.editing.value("action.to.kind"), &kinds, false))
                }
                (self.line(Field { class: "mono", ..line("action.to.id", "Channel or member id", "Such as C0123ABCD: at the foot of “About” in Slack. The app must be in the channel") }))
            }
            p.small #receiver role="status" hx-post=(self.address("/receiver")) hx-target="this" hx-swap="innerHTML"
                hx-trigger="load, change from:#f-action-to-id, change from:#f-action-to-kind, change from:#f-action-token-secret" { (self.receiver()) }
        }
    }

    /// What Slack calls the channel or the member.
    pub(super) fn receiver(&self) -> Markup {
        html! {
            @match &self.name {
                Some(Name::Is(name)) => { "This is " b { (name) } " in Slack." },
                Some(Name::None(why)) => { (icon("note")) " " (why) },
                None if self.editing.receiver().is_some() => span.muted { "Its name in Slack stands here, where the app may read it." },
                None => {},
            }
        }
    }

    fn webhook(&self) -> Markup {
        html! {
            div.two {
                (self.line(line("action.channel", "Channel", "Newer webhooks have one of their own; Slack then ignores this")))
                (self.line(line("action.username", "User name", "")))
                (self.line(line("action.icon_url", "Address of the icon", "It is never loaded here")))
            }
        }
    }

    fn account(&self) -> Markup {
        let accounts: Vec<&str> = self.web.config.clevertap.accounts.keys().map(|name| &**name).collect();
        let mut options = vec![("", "Choose an account")];
        options.extend(accounts.iter().map(|name| (*name, *name)));
        self.choice(line("action.account", "CleverTap account", ""), &options)
    }

    fn message(&self) -> Markup {
        let field = Field {
            is_template: true,
            ..line(
                "action.text",
                "Message",
                "*bold* _italic_ ~struck~ <address|label>. Values are escaped: nobody can ping a channel through a lead form.",
            )
        };
        html! {
            fieldset.fset disabled[self.is_read_only()] {
                legend.vh { "Message" }
                div.msg { (self.lines(field, 8)) (self.picker()) }
            }
        }
    }

    fn record(&self, action: ActionType) -> Markup {
        let template = |name, label, hint| Field {
            is_template: true,
            class: "mono",
            ..line(name, label, hint)
        };
        html! {
            fieldset.fset disabled[self.is_read_only()] {
                legend.vh { "Record" }
                div.two {
                    (self.line(template("action.identity", "Identity", "Whose profile it is, such as {{$.consumer.email}}")))
                    (self.line(template("action.object_id", "CleverTap id", "Instead of an identity")))
                    @if action == ActionType::ClevertapEvent { (self.line(template("action.event_name", "Event", "Such as Lead Sold"))) }
                    (self.line(template("action.created_at", "When it happened", "Left blank, when the lead event occurred")))
                }
                div.msg { (self.properties()) (self.picker()) }
            }
        }
    }

    fn properties(&self) -> Markup {
        let rows = self.editing.rows("properties");
        let plus = html! { (icon("plus")) "Property" };
        html! {
            div.stack {
                h3 { "Properties" }
                @for row in &rows {
                    @let (name, value) = (format!("properties.{row}.name"), format!("properties.{row}.value"));
                    div.row {
                        input type="text" id=(id_of(&name)) name=(name) value=(self.editing.value(&name)) class="w-m" autocomplete="off" autofocus[self.is_focus(&name)]
                            aria-label="Name of the property" aria-invalid=[self.is_wrong(&name).then_some("true")] aria-describedby=[self.described(&name, false)];
                        @if self.editing.has(&format!("keep.properties.{row}")) {
                            span.muted { "Only the YAML view shows its value" }
                        } @else {
                            input type="text" id=(id_of(&value)) name=(value) value=(self.editing.value(&value)) class="w-m mono grow" autocomplete="off" data-template
                                autofocus[self.is_focus(&value)] aria-label="Value of the property" aria-invalid=[self.is_wrong(&value).then_some("true")] aria-describedby=[self.described(&value, false)];
                        }
                        (self.order("remove", &format!("properties.{row}"), "x", &format!("Remove the property {}", self.editing.value(&name)), &icon("x")))
                    }
                    (self.errors(&name)) (self.errors(&value))
                }
                div.adders { (self.order("add", "properties", "btn s", "Add a property", &plus)) }
                (self.line(Field { class: "mono", ..line("action.properties.from", "Or all fields of", "Such as $.payload, instead of single properties") }))
            }
        }
    }

    /// The places of the event that is shown, to find and to insert.
    fn picker(&self) -> Markup {
        let places = self.chosen.places(self.web);
        html! {
            div.field {
                label for="find" { "Placeholders" }
                div.picker {
                    input.find #find type="search" placeholder="Find a field" autocomplete="off" aria-controls="phs" data-find="phs";
                    ul #phs tabindex="0" aria-label="Placeholders, each with its value in the event that is shown" {
                        @for (path, value) in &places {
                            li {
                                button type="button" title="Insert at the cursor" data-insert=(format!("{{{{$.{path}}}}}")) {
                                    code { (path) }
                                    span { @match value { Some(value) => (crate::text::truncate(value, 80)), None => "no value in this event" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// What most rules leave as it is.
    fn advanced(&self, action: ActionType) -> Markup {
        let own: Vec<&str> = form::settings(action).collect();
        let has = |name: &str| own.contains(&name);
        let is_open = own.iter().any(|name| self.is_wrong(&format!("action.{name}")));
        html! {
            fieldset.fset disabled[self.is_read_only()] {
                legend.vh { "When things go another way" }
                details.fold open[is_open] {
                    summary { "When many match at once, when a value is missing, how long to keep trying" }
                    div.two {
                        @if has("max_rate") { (self.line(line("action.max_rate", "Most messages", "Such as 20/h, 5/m or 1/s; more than that goes as one digest"))) }
                        @if has("when_busy") { (self.line(line("action.when_busy", "One digest when they wait", "Longer than this, such as 60s; or: each"))) }
                        @if has("thread") { (self.choice(line("action.thread", "Thread", ""), &THREAD)) }
                        @if has("unfurl") { (self.choice(line("action.unfurl", "Previews of links", ""), &UNFURL)) }
                        @if has("on_missing") { (self.choice(line("action.on_missing", "When a value is missing", ""), &MISSING)) }
                        @if has("expires_after") { (self.line(line("action.expires_after", "Too late after", "Such as 72h"))) }
                        @if has("on_ambiguous") { (self.choice(line("action.on_ambiguous", "When the answer is unclear", "It may have arrived or not"), &AMBIGUOUS)) }
                        @if has("over_long") { (self.choice(line("action.over_long", "When the text is too long", ""), &OVER_LONG)) }
                    }
                }
            }
        }
    }
}
