//! The text of a preview as Slack shows it, with what is missing marked.

use maud::{Markup, html};

use crate::desk::preview::{Shown, Style};
use crate::text::mask::mask;
use crate::text::slack::spans::Span;
use crate::web::page::slack::body;

/// The pieces of a preview. E-mail addresses and phone numbers are masked.
pub(super) fn pieces(pieces: &[Shown]) -> Markup {
    html! {
        @for piece in pieces {
            @match piece {
                Shown::Span(span) => (body(&[masked(span)])),
                Shown::Missing(path) => (missing(path)),
                Shown::Within(Style::Bold, inner) => b { (self::pieces(inner)) },
                Shown::Within(Style::Italic, inner) => em { (self::pieces(inner)) },
                Shown::Within(Style::Strike, inner) => s { (self::pieces(inner)) },
                Shown::Within(Style::Quote, inner) => blockquote { (self::pieces(inner)) },
            }
        }
    }
}

/// What stands where an event has no value.
pub(super) fn missing(path: &str) -> Markup {
    let name = path.strip_prefix("$.").unwrap_or(path);
    html! { span.miss title=(format!("{name} has no value in this event")) { (name) " is missing" } }
}

fn masked(span: &Span) -> Span {
    let masked = |text: &String| mask(text).into_owned();
    match span {
        Span::Text(text) => Span::Text(masked(text)),
        Span::Code(text) => Span::Code(masked(text)),
        Span::Pre(text) => Span::Pre(masked(text)),
        Span::Link { url, label } => Span::Link {
            url: masked(url),
            label: masked(label),
        },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::slack::spans::spans;

    #[test]
    fn a_hostile_text_stays_text_and_nobodys_address_is_shown() {
        let texts = [
            "<script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "<javascript:alert(1)|click> <data:text/html,x|y> <https://a.example/\"onclick=x|z>",
            "<!channel> `<b>` ```<script>``` <@U1|\"><svg onload=x>>",
        ];
        for text in texts {
            let shown: Vec<Shown> = spans(text).into_iter().map(Shown::Span).collect();
            let shown = pieces(&[Shown::Within(Style::Bold, shown)]).into_string();
            for tag in ["<script", "<img", "<svg", "href=\"javascript", "href=\"data"] {
                assert!(!shown.contains(tag), "{shown}");
            }
        }
        let shown = pieces(&[Shown::Missing("$.fields['<img src=x>']".to_owned())]).into_string();
        assert!(!shown.contains("<img"), "{shown}");
        let shown: Vec<Shown> =
            spans("mail ana.diaz@example.com, +15125550123, <https://a.example/?m=ana.diaz@example.com|x>")
                .into_iter()
                .map(Shown::Span)
                .collect();
        let shown = pieces(&shown).into_string();
        assert!(!shown.contains("diaz") && !shown.contains("5550123"), "{shown}");
    }
}
