//! Salesforce's Outbound Messages: SOAP with up to a hundred notifications, each with one sObject.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use serde_json::{Map, Value};

use super::form::add;

/// What Salesforce takes for an acknowledgement; without it, it sends the message again for a day.
pub(crate) const ACKNOWLEDGEMENT: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\">\
<soapenv:Body><notificationsResponse xmlns=\"http://soap.sforce.com/2005/09/outbound\"><Ack>true</Ack>\
</notificationsResponse></soapenv:Body></soapenv:Envelope>";

/// Elements within each other; more is nothing that Salesforce sends.
const DEPTH_MAX: usize = 32;

/// So many bytes an element takes at most, as XML and as JSON.
const ELEMENT_BYTES: usize = 320;

/// The elements that lead to the notifications and to the values around them.
const WAY: [&str; 3] = ["Envelope", "Body", "notifications"];

/// The notifications of a message, read one by one.
#[derive(Debug)]
pub(super) struct Notifications<'t> {
    text: &'t str,
    places: std::vec::IntoIter<Range<usize>>,
    around: Vec<(String, Value)>,
    around_cost: usize,
}

/// One notification, not read yet.
#[derive(Debug)]
pub(super) struct Notification<'n> {
    text: &'n str,
    around: &'n [(String, Value)],
    around_cost: usize,
}

impl<'t> Notifications<'t> {
    /// Walks through the whole message, so that nothing is taken of one that turns out to be broken.
    pub(super) fn new(text: &'t str) -> Result<Self, String> {
        let (mut places, mut around) = (Vec::new(), Vec::new());
        let mut around_cost = 0;
        for (name, place) in children(text)? {
            match name.as_str() {
                "Notification" => places.push(place),
                // A secret.
                "SessionId" => {}
                _ => {
                    around_cost += cost(&text[place.clone()]);
                    around.push(place);
                }
            }
        }
        let around: Result<_, String> = around
            .into_iter()
            .map(|place| element(&text[place]).map(|(name, node)| (name, json(&node))))
            .collect();
        Ok(Self {
            text,
            places: places.into_iter(),
            around: around?,
            around_cost,
        })
    }

    /// The size of the values around the notifications, in bytes.
    pub(super) fn around_cost(&self) -> usize {
        self.around_cost
    }

    pub(super) fn notification(&mut self) -> Option<Notification<'_>> {
        let place = self.places.next()?;
        Some(Notification {
            text: &self.text[place],
            around: &self.around,
            around_cost: self.around_cost,
        })
    }
}

impl Notification<'_> {
    /// How many bytes it and what stands around came in, about.
    pub(super) fn size(&self) -> usize {
        self.text.len() + self.around_cost
    }

    /// How many steps and bytes its record takes.
    pub(super) fn cost(&self) -> usize {
        cost(self.text) + self.around_cost
    }

    /// Its record: `Id`, `sObject` with its fields, and beside them what stands around the notifications
    /// (`OrganizationId`, `ActionId`, …) but the session's id, which is a secret.
    pub(super) fn record(&self) -> Result<Value, String> {
        let mut record = match element(self.text)? {
            (_, Node::Members(members)) => object(&members),
            (_, Node::Nil | Node::Text(_)) => Map::new(),
        };
        for (name, value) in self.around {
            record.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Ok(Value::Object(record))
    }
}

fn cost(text: &str) -> usize {
    2 * text.len() + ELEMENT_BYTES * text.bytes().filter(|byte| *byte == b'<').count()
}

/// The message without what any `SessionId` in it holds.
pub(super) fn without_session(text: &str) -> String {
    let mut reader = Reader::from_str(text);
    let mut kept = String::new();
    let mut from = 0;
    let mut depth: usize = 0;
    let is_session = |name: &[u8]| name == b"SessionId";
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(start) if depth > 0 || is_session(start.local_name().as_ref()) => {
                if depth == 0 {
                    kept.push_str(&text[from..position(&reader)]);
                }
                depth += 1;
            }
            Event::End(end) if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    kept.push_str("</");
                    kept.push_str(&String::from_utf8_lossy(end.name().as_ref()));
                    kept.push('>');
                    from = position(&reader);
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    kept.push_str(&text[from..]);
    kept
}

/// Where the reader is.
fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

fn malformed(reader: &Reader<&[u8]>) -> String {
    format!("malformed XML at byte {}", reader.error_position())
}

/// How far the walk through a message is on its way to the notifications.
#[derive(Debug, Default)]
struct Walk {
    /// How many elements are open, and how many of them lead to the notifications.
    open: usize,
    on_way: usize,
    is_envelope: bool,
    is_found: bool,
    /// The open element right inside the notifications, and where it begins.
    child: Option<(String, usize)>,
}

impl Walk {
    fn open(&mut self, start: &BytesStart<'_>, begin: usize) -> Result<(), String> {
        if self.open >= DEPTH_MAX {
            return Err("the XML is too deep".to_owned());
        }
        let name = start.local_name();
        let name = String::from_utf8_lossy(name.as_ref());
        if self.on_way == self.open {
            match WAY.get(self.open) {
                None => self.child = Some((name.into_owned(), begin)),
                Some(step) if !self.is_found && *step == name => self.on_way += 1,
                Some(_) => {}
            }
        }
        self.open += 1;
        self.is_envelope |= self.on_way > 0;
        self.is_found |= self.on_way == WAY.len();
        Ok(())
    }

    /// The child that is whole now, if one is.
    fn close(&mut self) -> Option<(String, usize)> {
        self.open = self.open.saturating_sub(1);
        self.on_way = self.on_way.min(self.open);
        if self.open == WAY.len() {
            self.child.take()
        } else {
            None
        }
    }
}

/// The elements right inside the first `notifications`, by name and place. The whole message is walked through, so that
/// nothing is taken of one that turns out to be broken.
fn children(text: &str) -> Result<Vec<(String, Range<usize>)>, String> {
    let mut reader = Reader::from_str(text);
    let (mut walk, mut children) = (Walk::default(), Vec::new());
    loop {
        let begin = position(&reader);
        let closes = match reader.read_event().map_err(|_| malformed(&reader))? {
            Event::DocType(_) => return Err("a DOCTYPE is not taken".to_owned()),
            Event::Start(start) => walk.open(&start, begin).map(|()| false)?,
            Event::Empty(start) => walk.open(&start, begin).map(|()| true)?,
            Event::End(_) => true,
            Event::GeneralRef(reference) => {
                let resolved = resolved(&reference).filter(|_| walk.open > 0);
                resolved.ok_or("an entity of its own is not taken")?;
                false
            }
            Event::Eof => return Err("the XML ends too soon".to_owned()),
            _ => false,
        };
        if !closes {
            continue;
        }
        children.extend(walk.close().map(|(name, begin)| (name, begin..position(&reader))));
        if walk.open == 0 {
            break;
        }
    }
    match (walk.is_envelope, walk.is_found) {
        (false, _) => Err("the XML is no SOAP envelope".to_owned()),
        (true, false) => Err("the SOAP body holds no notifications".to_owned()),
        (true, true) => Ok(children),
    }
}

enum Node {
    Nil,
    Text(String),
    Members(Vec<(String, Node)>),
}

fn json(node: &Node) -> Value {
    match node {
        Node::Nil => Value::Null,
        Node::Text(text) => text.as_str().into(),
        Node::Members(members) => Value::Object(object(members)),
    }
}

fn object(members: &[(String, Node)]) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, node) in members {
        add(&mut object, name.clone(), json(node));
    }
    object
}

/// The text of `&#65;` or `&amp;`; none of an entity that the document would have to define.
fn resolved(reference: &BytesRef<'_>) -> Option<String> {
    match reference.resolve_char_ref() {
        Ok(Some(character)) => Some(character.to_string()),
        _ => quick_xml::escape::resolve_predefined_entity(&reference.decode().unwrap_or_default()).map(str::to_owned),
    }
}

/// The document's one element, names without their prefixes.
fn element(text: &str) -> Result<(String, Node), String> {
    struct Open {
        name: String,
        nil: bool,
        text: String,
        members: Vec<(String, Node)>,
    }
    let mut reader = Reader::from_str(text);
    let open = |start: &BytesStart<'_>| Open {
        name: String::from_utf8_lossy(start.local_name().as_ref()).into_owned(),
        // Looking for attributes that are given twice would compare each with each.
        nil: start.attributes().with_checks(false).flatten().any(|attribute| {
            attribute.key.local_name().as_ref() == b"nil" && matches!(&*attribute.value, b"true" | b"1")
        }),
        text: String::new(),
        members: Vec::new(),
    };
    let close = |open: Open| {
        let node = match open {
            Open { nil: true, .. } => Node::Nil,
            Open { members, text, .. } if members.is_empty() => Node::Text(text),
            Open { members, .. } => Node::Members(members),
        };
        (open.name, node)
    };
    let mut stack: Vec<Open> = Vec::new();
    loop {
        let event = reader.read_event().map_err(|_| malformed(&reader))?;
        let closed = match event {
            Event::DocType(_) => return Err("a DOCTYPE is not taken".to_owned()),
            Event::Start(start) => {
                if stack.len() >= DEPTH_MAX {
                    return Err("the XML is too deep".to_owned());
                }
                stack.push(open(&start));
                None
            }
            Event::Empty(start) => Some(open(&start)),
            Event::End(_) => stack.pop(),
            Event::Text(piece) => {
                if let Some(open) = stack.last_mut() {
                    open.text.push_str(&piece.decode().map_err(|_| malformed(&reader))?);
                }
                None
            }
            Event::CData(piece) => {
                if let Some(open) = stack.last_mut() {
                    open.text.push_str(&String::from_utf8_lossy(&piece));
                }
                None
            }
            Event::GeneralRef(reference) => {
                match (resolved(&reference), stack.last_mut()) {
                    (Some(resolved), Some(open)) => open.text.push_str(&resolved),
                    _ => return Err("an entity of its own is not taken".to_owned()),
                }
                None
            }
            Event::Eof => return Err("the XML ends too soon".to_owned()),
            _ => None,
        };
        if let Some(closed) = closed {
            let (name, node) = close(closed);
            match stack.last_mut() {
                Some(parent) => parent.members.push((name, node)),
                None => return Ok((name, node)),
            }
        }
    }
}
