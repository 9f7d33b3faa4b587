use super::*;

const EVENT: &str = r#"{"event_id":"e","trigger":"lms.lead_sold","occurred_at":"2026-03-05T15:16:00Z","lead_id":"1"}"#;

fn inlet() -> Inlet {
    let entry = serde_json::json!({"name": "leads", "preset": "sheet"});
    Inlet::read("inlets[0]", &entry).unwrap()
}

/// Each line's number, with the lead of its event or why it has none.
fn lines(text: &[u8], format: Option<Format>, inlet: Option<&Inlet>) -> Result<Vec<(u64, String)>, String> {
    let lines = Lines::read(text, format, inlet, || 0).map_err(|error| error.to_string())?;
    let said = lines.map(|line| {
        let Line { number, taken } = line.unwrap();
        let said = match taken.refused {
            Some((_, why)) => why,
            None => taken.events[0].lead_id.clone(),
        };
        (number, said)
    });
    Ok(said.collect())
}

fn utf16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().flat_map(u16::to_le_bytes);
    [0xFF, 0xFE].into_iter().chain(units).collect()
}

#[test]
fn marks_blank_lines_and_line_ends_cost_nothing() {
    let lead = |number: u64| (number, "1".to_owned());
    for text in [
        format!("{EVENT}\n\n{EVENT}"),
        format!("{EVENT}\r\n\r\n{EVENT}\r\n"),
        format!("\u{feff}{EVENT}\n \n\u{feff}{EVENT}\n"),
    ] {
        let wanted = Ok(vec![lead(1), lead(3)]);
        assert_eq!(lines(text.as_bytes(), None, None), wanted, "{text}");
        assert_eq!(lines(&utf16(&text), None, None), wanted, "{text}");
        assert_eq!(lines(&utf16(&text), Some(Format::Json), None), wanted, "{text}");
    }
    let inlet = inlet();
    let record = "\n\u{feff}{\"email\":\"ana@example.com\"}";
    assert_eq!(
        lines(record.as_bytes(), None, Some(&inlet)),
        Ok(vec![(2, "ana@example.com".to_owned())])
    );
}

#[test]
fn the_content_says_what_a_file_is() {
    let inlet = inlet();
    let row = Ok(vec![(2, "ana@example.com".to_owned())]);
    for text in [
        "Email,Name\nana@example.com,Ana",
        "Email;Name\r\nana@example.com;Ana",
        "Email\tName\nana@example.com\tAna",
    ] {
        for format in [None, Some(Format::Csv)] {
            assert_eq!(lines(text.as_bytes(), format, Some(&inlet)), row, "{text}");
            assert_eq!(lines(&utf16(text), format, Some(&inlet)), row, "{text}");
            assert_eq!(
                lines(format!("\u{feff}{text}").as_bytes(), format, Some(&inlet)),
                row,
                "{text}"
            );
        }
        assert!(
            lines(text.as_bytes(), None, None).unwrap_err().contains("--inlet"),
            "{text}"
        );
        assert!(
            lines(text.as_bytes(), Some(Format::Csv), None)
                .unwrap_err()
                .contains("--inlet"),
            "{text}"
        );
        assert_eq!(
            lines(text.as_bytes(), Some(Format::Json), None).unwrap()[0].1,
            "no JSON object"
        );
    }
    for (bytes, word) in [
        (&b"PK\x03\x04\x14\0"[..], "xlsx"),
        (b"\x1F\x8B\x08\0", "gunzip"),
        (b"E\0m\0a\0", "UTF-16"),
    ] {
        for format in [None, Some(Format::Json), Some(Format::Csv)] {
            let why = lines(bytes, format, Some(&inlet)).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }
}

#[test]
fn what_is_over_several_lines_is_said_once_with_its_cure() {
    let inlet = inlet();
    let pretty = serde_json::from_str::<serde_json::Value>(EVENT).unwrap();
    let pretty = format!("{pretty:#}");
    let object = |number| {
        (
            number,
            "a JSON object over several lines; write one object a line: jq -c . FILE".to_owned(),
        )
    };
    let list = |number| {
        (
            number,
            "a list over several lines; write one object a line: jq -c '.[]' FILE".to_owned(),
        )
    };
    for inlet in [None, Some(&inlet)] {
        assert_eq!(lines(pretty.as_bytes(), None, inlet), Ok(vec![object(1)]));
        assert_eq!(lines(&utf16(&pretty), None, inlet), Ok(vec![object(1)]));
        for text in [
            format!("[\n{pretty}\n]"),
            format!("[{EVENT},\n{EVENT}]"),
            format!("[{pretty}]"),
        ] {
            assert_eq!(lines(text.as_bytes(), None, inlet), Ok(vec![list(1)]), "{text}");
        }
    }
    assert_eq!(
        lines(format!("{EVENT}\n\n{pretty}").as_bytes(), None, None),
        Ok(vec![(1, "1".to_owned()), object(3)])
    );
    assert_eq!(
        lines(format!("[{EVENT}]").as_bytes(), None, None).unwrap()[0].1,
        "a list; write one object a line: jq -c '.[]' FILE"
    );
    // A line that was cut off costs those behind it nothing, and neither does the last.
    let cut = format!("{}\n{EVENT}\n{}", &EVENT[..40], &EVENT[..40]);
    let said = lines(cut.as_bytes(), None, None).unwrap();
    assert!(
        said[0].1.starts_with("malformed JSON") && said[2].1.starts_with("malformed JSON"),
        "{said:?}"
    );
    assert_eq!(said[1], (2, "1".to_owned()));
}

#[test]
fn windows_1252_is_named_and_a_file_without_a_line_says_so() {
    let inlet = inlet();
    let named = |text: &[u8]| {
        let why = match lines(text, None, Some(&inlet)) {
            Ok(lines) => lines[0].1.clone(),
            Err(why) => why,
        };
        assert!(why.contains("Windows-1252") && why.contains("CSV UTF-8"), "{why}");
    };
    named(b"Email,Name\nana@example.com,Andr\xE9\n");
    named(b"Email,Pr\xE9nom\nana@example.com,Ana\n");
    named(b"{\"email\":\"ana@example.com\",\"name\":\"Andr\xE9\"}\n");
    for (text, format, why) in [
        ("", None, "it is empty"),
        ("\n \n", None, "it is empty"),
        ("\u{feff}", Some(Format::Csv), "it is empty"),
        ("Email,Name\n", None, "it has titles, and no row under them"),
        (
            "Email,Name\n,\n\n",
            Some(Format::Csv),
            "it has titles, and no row under them",
        ),
    ] {
        let mut lines = Lines::read(text.as_bytes(), format, Some(&inlet), || 0).unwrap();
        assert!(lines.next().is_none(), "{text:?}");
        assert_eq!(lines.nothing(), why, "{text:?}");
    }
}
