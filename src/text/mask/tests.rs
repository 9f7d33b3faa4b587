use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn addresses_keep_their_first_letters_and_their_last_label() {
    for (text, expected) in [
        ("ana@example.com", "a•••@e•••.com"),
        (
            "write to <ana.b+x@mail.example.co.uk>, please",
            "write to <a•••@m•••.uk>, please",
        ),
        ("a@b.c", "•••@•••.c"),
        ("<mailto:a@b.c|a@b.c>", "<mailto:•••@•••.c|•••@•••.c>"),
        ("<mailto:ana@example.com|Ana>", "<mailto:a•••@e•••.com|Ana>"),
        ("josé@exämple.de ana@例え.jp", "j•••@e•••.de a•••@•••.jp"),
        (
            "ana%40example.com ana%2540example.com",
            "a•••%40e•••.com a•••%2540e•••.com",
        ),
        (
            "https://x.example/?q=1&email=ana%2Bx%40example.com&p=2",
            "https://x.example/?q=1&email=a•••%40e•••.com&p=2",
        ),
        ("'ana@example.com'", "'a•••@e•••.com'"),
        ("ana@example.com.", "a•••@e•••.com."),
        ("ana@192.168.0.1 ana@[10.0.0.1]!", "a•••@1••• a•••@[•••!"),
        ("\"ana diaz\"@example.com", "•••@e•••.com"),
        ("jos\\u00e9\\u0040example.com", "j•••\\u0040e•••.com"),
        (
            "bo&#64;example.com &lt;ana@example.com&gt;",
            "•••&#64;e•••.com &lt;a•••@e•••.com&gt;",
        ),
        ("ana@intranet", "a•••@i•••"),
        ("one@example.com,two@example.com", "o•••@e•••.com,t•••@e•••.com"),
        ("https://bo:pass@host.example/", "https://bo:p•••@h•••.example/"),
        ("5125550123@txt.example", "5•••@t•••.example"),
    ] {
        assert_eq!(mask(text), expected, "{text}");
    }
    for text in [
        "@here",
        "<@U0123ABCD>",
        "5 @ 2",
        "a@",
        "@b",
        "@",
        "Café @ noon",
        "npm @scope/name",
        "50%40",
        "v@1.2",
        "<!here>",
        "user_id",
        "%40",
        "a•••@e•••.com",
    ] {
        assert_eq!(mask(text), text);
    }
}

#[test]
fn phones_keep_their_last_digits() {
    for (text, expected) in [
        ("+15125550123", "•••0123"),
        ("call +1 (512) 555-0123!", "call •••0123!"),
        ("call (512) 555-0123 or 512.555.0123.", "call •••0123 or •••0123."),
        ("15125550123", "•••0123"),
        ("5125550123", "•••0123"),
        ("512-555-0123", "•••0123"),
        ("1-512-555-0123", "•••0123"),
        ("512 555 0123 512 555 0124", "•••0123 •••0124"),
        ("5125550123 5125550124", "•••0123 •••0124"),
        ("555-0123", "•••23"),
        ("+49 30 1234567", "•••4567"),
        ("+49 (0)30/123 45 67", "•••4567"),
        ("030/12345678", "•••5678"),
        ("020 7946 0958", "•••0958"),
        ("06 12 34 56 78, 06.12.34.56.78", "•••5678, •••5678"),
        ("98765 43210", "•••3210"),
        ("612 345 678", "•••78"),
        ("<tel:+15125550123|+1 (512) 555-0123>", "<tel:•••0123|•••0123>"),
        ("tel:5550123", "tel:•••23"),
        (
            "https://x.example/call/5125550123?n=%2B15125550123",
            "https://x.example/call/•••0123?n=•••0123",
        ),
        ("1%20512%20555%200123", "•••0123"),
        ("512–555–0123", "•••0123"),
        ("５１２５５５０１２３ ٥١٢٥٥٥٠١٢٣", "•••０１２３ •••٠١٢٣"),
        ("5125550123.0", "•••0123.0"),
        ("512-555-0123x45", "•••0123x45"),
        ("phone=5550123&ts=1772723760123", "phone=•••23&ts=1772723760123"),
        ("caller_number: 5550123", "caller_number: •••23"),
        (
            "lead_id 4 at 2026-03-05 15:16 from 5125550123",
            "lead_id 4 at 2026-03-05 15:16 from •••0123",
        ),
        ("512 555 0123 2026-03-05", "•••0123 2026-03-05"),
        ("5125550123 4runners", "•••0123 4runners"),
    ] {
        assert_eq!(mask(text), expected, "{text}");
    }
}

#[test]
fn other_digits_stay() {
    for text in [
        "2026-03-05T15:16:00.123Z",
        "2026-03-05 15:16:00 2026-03-05 15:16",
        "5.3.2026, 03/05/2026 and 15:16:00.123456",
        "20260305T151600Z",
        "Lead 84512377 sold for $42.50 in 78701",
        "C0123456789 U0123ABCD",
        "0190f3c2-6f7b-7c11-9a55-3f0a7be1c001",
        "12345678-1234-1234-1234-123456789012",
        "7fb2cd34-f4da-5f5f-911b-265780569f3b demo-8451237700-lms.lead_sold",
        "$1,234,567,890.12 and 1234567890.12",
        "1503435956.000247",
        "192.168.100.200:9092",
        "occurred_at: 1772723760123, ts=1772723760, \"lead_id\": \"5125550123\"",
        "https://x.example/leads/5125550123",
        "error 512, at most 4000 characters",
        "3-4200",
        "•••0123",
        "",
    ] {
        assert_eq!(mask(text), text);
    }
}

#[test]
fn the_name_says_what_digits_are() {
    for (name, field) in [
        ("phone", Field::Phone),
        ("caller_number", Field::Phone),
        ("dialed_number", Field::Phone),
        ("callerId", Field::Phone),
        ("Mobile Phone", Field::Phone),
        ("phone_verified_at", Field::Figure),
        ("lead_id", Field::Figure),
        ("leadId", Field::Figure),
        ("eventid", Field::Figure),
        ("job-ids", Field::Figure),
        ("id", Field::Figure),
        ("occurred_at", Field::Figure),
        ("createdAt", Field::Figure),
        ("ts", Field::Figure),
        ("timestamp", Field::Figure),
        ("price", Field::Figure),
        ("zip", Field::Figure),
        ("zip_code", Field::Figure),
        ("$.consumer.zip", Field::Figure),
        ("billable_seconds", Field::Figure),
        ("text", Field::Free),
        ("identity", Field::Free),
        ("order number", Field::Free),
        ("", Field::Free),
    ] {
        assert_eq!(Field::of(name), field, "{name}");
    }
    assert_eq!(mask_named("consumer.phone", "5550123"), "•••23");
    assert_eq!(mask_named("lead_id", "5125550123"), "5125550123");
    assert_eq!(mask_named("lead_id", "+15125550123"), "•••0123");
    assert_eq!(mask_named("lead_id", "ana@example.com"), "a•••@e•••.com");
}

/// A lead event with a person in every corner, and how it is shown.
fn event() -> (Value, Value) {
    let number = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let whole = json!({
        "event_id": "0190f3c2-6f7b-7c11-9a55-3f0a7be1c001", "occurred_at": 1_772_723_760_123_i64, "lead_id": "8451237700",
        "price": "42.5000", "consumer": {"email": "ana@example.com", "phone": "(512) 555-0123", "zip": "787010000000"},
        "call": {"call_id": "5125550123", "caller_number": 15_125_550_123_i64, "started_at": "2026-03-05T15:16:00Z"},
        "payload": {"views": 5_125_550_123_i64, "sheet": number("5125550123.0"), "exp": number("5.125550123e9"),
                    "phones": [5_550_123, "5550124"], "phone": {"number": 5_550_125}, "ana@example.com": true,
                    "body": "{\"to\":\"bo@example.com\",\"tel\":5550126}", "negative": -5_125_550_123_i64,
                    "ids": [5_125_550_123_i64], "none": null},
    });
    let shown = json!({
        "event_id": "0190f3c2-6f7b-7c11-9a55-3f0a7be1c001", "occurred_at": 1_772_723_760_123_i64, "lead_id": "8451237700",
        "price": "42.5000", "consumer": {"email": "a•••@e•••.com", "phone": "•••0123", "zip": "787010000000"},
        "call": {"call_id": "5125550123", "caller_number": "•••0123", "started_at": "2026-03-05T15:16:00Z"},
        "payload": {"views": "•••0123", "sheet": "•••0123", "exp": "•••0123",
                    "phones": ["•••23", "•••24"], "phone": {"number": "•••25"}, "a•••@e•••.com": true,
                    "body": "{\"to\":\"•••@e•••.com\",\"tel\":\"•••26\"}", "negative": -5_125_550_123_i64,
                    "ids": [5_125_550_123_i64], "none": null},
    });
    (whole, shown)
}

#[test]
fn json_stays_json() {
    let (whole, shown) = event();
    let mut value = whole.clone();
    mask_json(&mut value);
    assert_eq!(value, shown);
    for text in [whole.to_string(), format!(" {whole:#}\n")] {
        let masked = mask(&text);
        assert_eq!(serde_json::from_str::<Value>(&masked).unwrap(), shown, "{masked}");
        assert_eq!(masked.lines().count(), text.lines().count(), "its spacing stays");
    }
    let cut = &whole.to_string()[..330];
    let masked = mask(cut);
    assert!(
        !masked.contains("ana@") && !masked.contains("555-0123") && masked.contains("8451237700"),
        "{masked}"
    );
}

#[test]
fn much_text_takes_little_time() {
    let size = 30_000;
    for part in [
        "a.",
        "a@",
        "+1 ",
        "1",
        "1 ",
        "\"",
        "\\\"",
        "1.",
        "..........a",
        "%4",
        "(1",
        "-1",
        "@",
    ] {
        let text = part.repeat(size / part.len());
        assert!(mask(&text).len() <= 4 * text.len(), "{part}");
        let json = Value::from(vec![Value::from(text)]).to_string();
        assert!(serde_json::from_str::<Value>(&mask(&json)).is_ok(), "{part}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn an_address_is_masked_wherever_it_stands(
        before in "(?s).{0,10}[ <(,;:|=\n]", name in "[a-z]{3,8}([.+_-][a-z0-9]{3,6})?", host in "[a-z]{3,8}(\\.[a-z]{3,8})?\\.(com|de|io)",
        behind in "([ >),;|\n\"](?s).{0,10})?",
    ) {
        let text = format!("{before}{name}@{host}{behind}");
        let masked = mask(&text);
        prop_assert!(!masked.contains(&format!("{name}@")) && !masked.contains(&host), "{}", masked);
    }

    #[test]
    fn a_phone_number_is_masked_wherever_it_stands(
        before in "([a-z ]{0,10}[ <(,;|\n])?", area in "[2-9][0-9]{2}", office in "[2-9][0-9]{2}", line in "[0-9]{4}",
        country in "(\\+1 ?|1[ .-])?", mark in "[ .-]", behind in "([ >),;|\n\"][a-z ]{0,10})?",
    ) {
        // A mark that is mixed with points is none.
        let country = if mark == "." { country.replace([' ', '-'], ".") } else { country.replace('.', "-") };
        let text = format!("{before}{country}{area}{mark}{office}{mark}{line}{behind}");
        let masked = mask(&text);
        prop_assert!(masked.contains(&format!("{MASK}{line}")), "{} {}", text, masked);
        prop_assert!(!masked.contains(&format!("{area}{mark}{office}")), "{} {}", text, masked);
    }

    #[test]
    fn what_is_masked_stays_as_it_is(text in "(ana@example\\.com|[0-9]{3}|-|\\+| |\\.|@|a|\"|\\\\|:|%40|phone|id|é|\\(|\\)|\\{|\\}|,){0,16}") {
        let once = mask(&text).into_owned();
        prop_assert_eq!(mask(&once), once.as_str());
    }

    #[test]
    fn any_text_is_taken(text in "(?s).{0,60}") {
        let masked = mask(&text);
        if !text.chars().any(|c| c.is_numeric() || matches!(c, '@' | '＠' | '&')) {
            prop_assert_eq!(masked, text.as_str());
        }
    }
}
