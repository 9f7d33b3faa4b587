//! A Slack message as Slack shows it.

use maud::{Markup, html};

use crate::text::mask::mask;
use crate::text::slack::spans::{Span, spans};

/// A message: by whom, where and what. All of it but the text is shown as it is given.
#[derive(Debug, Clone)]
pub(in crate::web) struct Message<'m> {
    pub(in crate::web) channel: &'m str,
    pub(in crate::web) name: &'m str,
    /// Slack's markup, as it is sent.
    pub(in crate::web) text: &'m str,
    pub(in crate::web) at: Option<Markup>,
    /// E-mail addresses and phone numbers stay as they are.
    pub(in crate::web) revealed: bool,
}

impl Message<'_> {
    pub(in crate::web) fn draw(&self) -> Markup {
        let text = match self.revealed {
            true => self.text.into(),
            false => mask(self.text),
        };
        html! {
            div.slack {
                p.chan { (self.channel) }
                svg.av viewBox="0 0 36 36" aria-hidden="true" {
                    rect width="36" height="36" rx="4" fill="#1c2422" {}
                    path d="M11 30 14.5 6M25 30 21.5 6" stroke="#eaefec" stroke-width="2.5" fill="none" {}
                    path d="M18 8v5M18 17v5M18 26v4" stroke="#f0bd1f" stroke-width="2.5" {}
                }
                div {
                    span.nm { (self.name) } span.app { "APP" }
                    @if let Some(at) = &self.at { span.at { (at) } }
                    div.body { (body(&spans(&text))) }
                }
            }
        }
    }
}

/// The spans of a text. A link leads nowhere but over http and e-mail, and tells nobody where it comes from.
pub(in crate::web) fn body(spans: &[Span]) -> Markup {
    html! {
        @for span in spans {
            @match span {
                Span::Text(text) => (text),
                Span::Bold(inner) => b { (body(inner)) },
                Span::Italic(inner) => em { (body(inner)) },
                Span::Strike(inner) => s { (body(inner)) },
                Span::Code(text) => code { (text) },
                Span::Pre(text) => pre { (text) },
                Span::Quote(inner) => blockquote { (body(inner)) },
                Span::Link { url, label } => (link(url, label)),
                Span::User { id, label } | Span::Group { id, label } => {
                    span.mention { "@" (label.as_deref().unwrap_or(id).trim_start_matches('@')) }
                },
                Span::Channel { id, label } => span.mention { "#" (label.as_deref().unwrap_or(id)) },
                Span::Special(name) => span.mention { "@" (name) },
                Span::Emoji(name) => { ":" (name) ":" },
                Span::Date { label, .. } => (label),
                Span::LineBreak => br;
            }
        }
    }
}

fn link(url: &str, label: &str) -> Markup {
    let is_safe = ["https://", "http://", "mailto:", "tel:"].iter().any(|scheme| {
        url.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    html! {
        @if is_safe { a href=(url) rel="noreferrer noopener" target="_blank" { (label) } } @else { (label) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> String {
        let message = Message {
            channel: "# sales",
            name: "sales-bot",
            text,
            at: None,
            revealed: false,
        };
        message.draw().into_string()
    }

    #[test]
    fn a_text_stays_text_and_a_link_is_of_the_web() {
        let hostile =
            drawn("*bold* &lt;script&gt;alert(1)&lt;/script&gt; <javascript:alert(1)|x> <https://a.example/?q=\"|b>");
        assert!(hostile.contains("<b>bold</b>"), "{hostile}");
        assert!(
            hostile.contains("&lt;script&gt;") && !hostile.contains("<script"),
            "{hostile}"
        );
        assert!(!hostile.contains("href=\"javascript"), "{hostile}");
        assert!(hostile.contains("href=\"https://a.example/?q=&quot;\""), "{hostile}");
    }

    #[test]
    fn an_address_is_masked_before_it_is_drawn() {
        let masked = drawn("<mailto:ana@example.com|ana@example.com> +1 512 555 0123");
        assert!(
            !masked.contains("example.com") && !masked.contains("555 0123"),
            "{masked}"
        );
    }
}
