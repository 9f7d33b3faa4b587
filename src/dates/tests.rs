use proptest::prelude::*;

use super::*;

fn read(text: &str) -> String {
    parse(text).map_or_else(|error| format!("{error:?}"), |time| time.to_string())
}

#[test]
fn every_form_that_people_write() {
    for (text, expected) in [
        // Epochs
        ("1521611063", "2018-03-21T05:44:23Z"),
        ("1521611063000", "2018-03-21T05:44:23Z"),
        ("1521611063123", "2018-03-21T05:44:23.123Z"),
        ("1521611063.5", "2018-03-21T05:44:23.5Z"),
        ("1521611063123.25", "2018-03-21T05:44:23.12325Z"),
        ("1.521611063e9", "2018-03-21T05:44:23Z"),
        ("1521611063123456", "2018-03-21T05:44:23.123456Z"),
        ("1521611063123456.789", "2018-03-21T05:44:23.123456789Z"),
        ("-1521611063000", "1921-10-13T18:15:37Z"),
        // The edges of each unit
        ("100000000", "1973-03-03T09:46:40Z"),
        ("99999999999", "5138-11-16T09:46:39Z"),
        ("100000000000", "1973-03-03T09:46:40Z"),
        ("99999999999999", "5138-11-16T09:46:39.999Z"),
        ("100000000000000", "1973-03-03T09:46:40Z"),
        ("99999999999999999", "5138-11-16T09:46:39.999999Z"),
        // ISO's basic form
        ("19900115", "1990-01-15T00:00:00Z"),
        ("20260305T151600", "2026-03-05T15:16:00Z"),
        ("20260305T151600Z", "2026-03-05T15:16:00Z"),
        ("20260305T151600.5+0100", "2026-03-05T14:16:00.5Z"),
        // ISO 8601 and its relatives
        ("2018-03-05T15:16:00Z", "2018-03-05T15:16:00Z"),
        ("2018-03-05T15:16:0Z", "2018-03-05T15:16:00Z"),
        ("2018-03-05T15:16:0. 123Z", "2018-03-05T15:16:00.123Z"),
        ("2018-03-05T15:16:00.123Z", "2018-03-05T15:16:00.123Z"),
        ("2018-03-05T15:16:00,123Z", "2018-03-05T15:16:00.123Z"),
        ("2018-03-05T15:16:00.123+0000", "2018-03-05T15:16:00.123Z"),
        ("2018-03-05T15:16:00.123+05:30", "2018-03-05T09:46:00.123Z"),
        ("2018-03-05T15:16:00+0030", "2018-03-05T14:46:00Z"),
        ("2018-03-05T15:16:00-08", "2018-03-05T23:16:00Z"),
        ("2018-03-05t15:16:00z", "2018-03-05T15:16:00Z"),
        ("2018-3-5T5:6:7", "2018-03-05T05:06:07Z"),
        ("2018-03-5 15:16:0", "2018-03-05T15:16:00Z"),
        ("2018-03-05 15:16", "2018-03-05T15:16:00Z"),
        ("2018-03-05 15:16:00 UTC", "2018-03-05T15:16:00Z"),
        ("2018-03-05 15:16:00 -0800", "2018-03-05T23:16:00Z"),
        ("2018-03-05 15:16:00.123456789123", "2018-03-05T15:16:00.123456789Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        ("20180305T151600Z", "2018-03-05T15:16:00Z"),
        ("2018-03-05T15:16:00-06:00[America/Chicago]", "2018-03-05T21:16:00Z"),
        // Named months
        ("March 05, 2018 15:16:0", "2018-03-05T15:16:00Z"),
        ("Monday, March 05, 2018 15:16:0", "2018-03-05T15:16:00Z"),
        ("Monday March 5 2018 15:16:0", "2018-03-05T15:16:00Z"),
        ("Mon, Mar 5, 2018 15:16", "2018-03-05T15:16:00Z"),
        ("mon mar. 05, 2018, 15:16:00 +0530", "2018-03-05T09:46:00Z"),
        ("MARCH 05, 2018 15:16:0", "2018-03-05T15:16:00Z"),
        ("5 May 2018 15:16", "2018-05-05T15:16:00Z"),
        // RFC 2822
        ("Mon, 05 Mar 2018 15:16:00 +0000", "2018-03-05T15:16:00Z"),
        ("Mon, 05 Mar 2018 15:16:00 GMT", "2018-03-05T15:16:00Z"),
        ("Mon, 05 Mar 2018 15:16:00 EST", "2018-03-05T20:16:00Z"),
        // A date alone, blanks around
        ("2018-03-05", "2018-03-05T00:00:00Z"),
        ("2018-3-5", "2018-03-05T00:00:00Z"),
        ("March 05, 2018", "2018-03-05T00:00:00Z"),
        ("Monday, March 05, 2018", "2018-03-05T00:00:00Z"),
        (" \t2018-03-05 15:16:00\n", "2018-03-05T15:16:00Z"),
        ("2024-02-29", "2024-02-29T00:00:00Z"),
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_date_says_why() {
    for text in [
        "",
        " ",
        "tomorrow",
        "3/5/2018 15:16:00",
        "2018-03",
        "18-03-05",
        "2018-03-05Z",
        "2018-03-05T",
        "2018-03-05T15",
        "2018-03-05T15:16:",
        "2018-03-05T15:16:00.",
        "2018-03-05T15:16:00+5",
        "2018-03-05T15:16:00+053",
        "2018-03-05T15:16:00Z and more",
        "2018-03-0515:16",
        "March 05, 18",
        "Marsh 05, 2018",
        "Mon 05, 2018",
        "2018-03-05 3:16 PM",
    ] {
        assert_eq!(parse(text), Err(DateError::Unreadable), "{text}");
    }
    for text in [
        "2018-02-29",
        "2018-13-05",
        "2018-00-05",
        "February 30, 2018",
        "2018-03-05T24:00:00Z",
        "2018-03-05T15:61:00Z",
        "2018-03-05T15:16:61Z",
        "2018-03-05T15:16:00+05:99",
        "2018-03-05T15:16:00+99:00",
    ] {
        assert_eq!(parse(text), Err(DateError::NoSuchDate), "{text}");
    }
    for text in [
        "0",
        "1",
        "-1",
        "45123.5",
        "19901332",
        "-19900115",
        "19900115.5",
        "99999999",
        "00000012345",
        "100000000000000000",
        "1e20",
    ] {
        let said = parse(text).unwrap_err();
        assert_eq!(said, DateError::Number, "{text}");
        assert!(said.to_string().contains("read_date"), "{said}");
    }
    // As epochs they would be 1976 and 2612.
    for text in [
        "202603051516",
        "20180305151600",
        "20180305151600123",
        "190001010000",
        "20260305151600.0",
        "20260305151600.5",
        "+20260305151600",
        "2.02603051516e13",
        "00020260305151600",
    ] {
        let said = parse(text).unwrap_err();
        assert_eq!(said, DateError::TwoWays, "{text}");
        assert!(said.to_string().contains("read_date"), "{said}");
    }
    assert_eq!(parse("20260305T151600[America/Chicago]"), Err(DateError::Unreadable));
}

#[test]
fn a_wrong_weekday_is_named_with_the_right_one() {
    for text in ["Tuesday, March 05, 2018 15:16:0", "Tue, 05 Mar 2018 15:16:00 +0000"] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.to_string(), "it says Tuesday, but that day is a Monday", "{text}");
    }
}

#[test]
fn errors_quote_nothing_of_the_text() {
    for text in [
        "hunter2@example.com",
        "411111111111111111",
        "41111",
        "2018-02-31 hunter2",
    ] {
        let said = parse(text).unwrap_err().to_string();
        assert!(!said.contains("hunter2") && !said.contains("4111"), "{said}");
    }
}

#[test]
fn an_epoch_alone_is_nothing_else() {
    assert_eq!(parse_epoch("1521611063").unwrap().to_string(), "2018-03-21T05:44:23Z");
    for text in ["2018-03-05", "19900115", "0", "1,521,611,063", ""] {
        assert_eq!(parse_epoch(text), Err(DateError::Number), "{text}");
    }
}

#[test]
fn forms_that_somebody_names() {
    for (text, form, expected) in [
        ("3/5/2018 15:16:00", "%m/%d/%Y %H:%M:%S", "2018-03-05T15:16:00Z"),
        ("3/5/2018", "%m/%d/%Y", "2018-03-05T00:00:00Z"),
        ("3/5/18", "%m/%d/%y", "2018-03-05T00:00:00Z"),
        ("05.03.2018 15:16 +0100", "%d.%m.%Y %H:%M %z", "2018-03-05T14:16:00Z"),
        ("05.03.2018 +0100", "%d.%m.%Y %z", "2018-03-04T23:00:00Z"),
        ("3/5/2018 3:16 PM", "%m/%d/%Y %I:%M %p", "2018-03-05T15:16:00Z"),
        ("20180305151600", "%Y%m%d%H%M%S", "2018-03-05T15:16:00Z"),
        ("1521611063", "%s", "2018-03-21T05:44:23Z"),
        (
            "2018-03-05 15:16 America/Chicago",
            "%Y-%m-%d %H:%M %Q",
            "2018-03-05T21:16:00Z",
        ),
        ("45123.5", "serial", "2023-07-16T12:00:00Z"),
        (" 1 ", "serial", "1899-12-31T00:00:00Z"),
        ("45911.32361", "serial", "2025-09-11T07:45:59.904Z"),
        ("0", "epoch", "1970-01-01T00:00:00Z"),
        ("-0.25", "epoch", "1969-12-31T23:59:59.75Z"),
        ("86400", "epoch", "1970-01-02T00:00:00Z"),
        ("19900115", "epoch", "1970-08-19T07:48:35Z"),
        ("1521611063", "epoch", "2018-03-21T05:44:23Z"),
        ("202603051516", "epoch", "1976-06-02T22:37:31.516Z"),
    ] {
        let read = Form::parse(form).unwrap().read(text);
        assert_eq!(read.unwrap().to_string(), expected, "{text}");
    }
    let misfit = |form: &str| DateError::Format(form.to_owned());
    for (text, form, why) in [
        ("5.3.2018", "%m/%d/%Y", misfit("%m/%d/%Y")),
        ("2/30/2018", "%m/%d/%Y", misfit("%m/%d/%Y")),
        ("3/5/18", "%m/%d/%Y", misfit("%m/%d/%Y")),
        ("3/5/2018 and more", "%m/%d/%Y", misfit("%m/%d/%Y")),
        ("SECRET", "serial", DateError::Serial),
        ("1e20", "serial", DateError::Serial),
        ("19901332", "serial", DateError::Serial),
        ("2018-03-05", "epoch", DateError::Epoch),
        ("1e20", "epoch", DateError::Epoch),
    ] {
        assert_eq!(Form::parse(form).unwrap().read(text), Err(why), "{text}");
    }
    for form in [
        "",
        "serials",
        "%H:%M",
        "%m/%d",
        "%Y",
        "3/5/2018",
        "%I:%M %m/%d/%Y",
        "%Q!%",
    ] {
        assert!(Form::parse(form).is_err(), "{form}");
    }
}

#[test]
fn seconds_are_rounded_down_on_both_sides_of_the_epoch() {
    for (text, seconds) in [("1.9", 1), ("0", 0), ("-0.1", -1), ("-1", -1), ("-1.1", -2)] {
        assert_eq!(epoch_seconds(Form::Epoch.read(text).unwrap()), seconds, "{text}");
    }
}

#[test]
fn durations_that_people_write() {
    for (text, milliseconds, shortest) in [
        ("50ms", 50, "50ms"),
        ("10s", 10_000, "10s"),
        ("5m", 300_000, "5m"),
        ("24h", 86_400_000, "1d"),
        ("7d", 604_800_000, "7d"),
        ("1h30m", 5_400_000, "90m"),
        ("90s", 90_000, "90s"),
        ("60s", 60_000, "1m"),
        ("1h1s", 3_601_000, "1h1s"),
        ("1d2h3m4s5ms", 93_784_005, "93784s5ms"),
        ("36h", 129_600_000, "36h"),
        ("0s", 0, "0s"),
        ("0ms", 0, "0s"),
        (" 10s ", 10_000, "10s"),
    ] {
        let read = duration(text).unwrap();
        assert_eq!(read, Duration::from_millis(milliseconds), "{text}");
        assert_eq!(duration_text(read), shortest, "{text}");
    }
}

#[test]
fn what_is_no_duration_says_why() {
    for (text, expected) in [
        ("10", DurationError::NoUnit("10".into())),
        ("1h30", DurationError::NoUnit("30".into())),
        ("", DurationError::Unreadable),
        ("s", DurationError::Unreadable),
        ("1.5h", DurationError::Unreadable),
        ("-1s", DurationError::Unreadable),
        ("10 s", DurationError::Unreadable),
        ("1w", DurationError::Unreadable),
        ("1H", DurationError::Unreadable),
        ("30m1h", DurationError::UnitOrder),
        ("1h1h", DurationError::UnitOrder),
        ("18446744073709551616s", DurationError::TooLong),
        ("18446744073709551615d", DurationError::TooLong),
        ("9999999999999999999999999999999999999999d", DurationError::TooLong),
        ("340282366920938463463374607431768211455d", DurationError::TooLong),
    ] {
        assert_eq!(duration(text), Err(expected), "{text}");
    }
    assert_eq!(
        duration("10").unwrap_err().to_string(),
        "a duration needs a unit: write 10s, 10m or 10h"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        prop_assert_eq!(parse(&text), parse(text.trim()));
        prop_assert_eq!(duration(&text), duration(text.trim()));
    }

    #[test]
    fn near_dates_are_read_or_refused(text in "[0-9a-zA-Z:,. +TZ-]{0,30}") {
        for text in [text.clone(), format!("2018-03-05{text}"), format!("March 05, 2018 {text}")] {
            prop_assert_eq!(parse(&text), parse(&format!(" {text} ")));
        }
        if let Ok(read) = duration(&text) {
            prop_assert_eq!(duration(&duration_text(read)), Ok(read));
        }
    }

    #[test]
    fn a_number_is_read_by_its_size_or_refused(number: u64, point in 0..4_usize, negative: bool) {
        let number = number % 10_u64.pow(u32::try_from(number % 19).unwrap() + 1);
        let sign = if negative { "-" } else { "" };
        let text = format!("{sign}{number}{}", &[ "", ".5", ".000", ".25"][point]);
        let seconds = match number.to_string().len() {
            9..=11 => Some(number),
            12..=14 => Some(number / 1_000),
            15..=17 => Some(number / 1_000_000),
            _ => None,
        };
        match (parse(&text), seconds) {
            (Ok(read), Some(seconds)) => prop_assert!(read.as_second().unsigned_abs().abs_diff(seconds) <= 1),
            (Ok(_), None) => prop_assert_eq!(text.len(), 8, "only a day has so few digits"),
            (Err(error), seconds) => prop_assert_eq!(seconds.is_some(), error == DateError::TwoWays),
        }
    }

    #[test]
    fn no_number_makes_a_form_panic(number in "-?[0-9]{1,28}(\\.[0-9]{1,5})?", text in "\\PC{0,20}") {
        for form in ["serial", "epoch", "%Y%m%d", "%s", "%m/%d/%y %H:%M"] {
            let form = Form::parse(form).unwrap();
            for text in [&number, &text] {
                prop_assert_eq!(form.read(text), form.read(&format!(" {text} ")));
            }
        }
    }

    #[test]
    fn what_rfc_3339_writes_is_read_back(seconds in -62_135_596_800_i64..253_402_207_200, nanosecond in 0..1_000_000_000_i32) {
        let time = Timestamp::new(seconds, 0).unwrap() + jiff::SignedDuration::from_nanos(nanosecond.into());
        prop_assert_eq!(parse(&time.to_string()), Ok(time));
    }

    #[test]
    fn a_duration_is_read_back_from_its_text(seconds: u64, nanosecond in 0..1_000_000_000_u32) {
        for duration_in in [Duration::new(seconds, nanosecond), Duration::from_secs(seconds), Duration::from_nanos(seconds)] {
            prop_assert_eq!(duration(&duration_text(duration_in)), Ok(duration_in));
        }
    }

    #[test]
    fn no_other_text_is_shorter(days in 0..9_u64, hours in 0..24_u64, minutes in 0..60_u64, seconds in 0..60_u64) {
        let total = Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds);
        let written = format!("{days}d{hours}h{minutes}m{seconds}s");
        let shortest = duration_text(total);
        prop_assert!(shortest.len() <= written.len());
        let in_seconds = format!("{}s", total.as_secs());
        prop_assert!(shortest.len() <= in_seconds.len());
    }
}
