//! Salesforce's Outbound Messages: SOAP with up to a hundred notifications, each with one sObject.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use serde_json::{Map, Value};

use super::decode::add;

/// What Salesforce takes for an acknowledgement; without it, it sends the message again for a day.
pub(crate) const ACKNOWLEDGEMENT: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\">\
<soapenv:Body><notificationsResponse xmlns=\"http://soap.sforce.com/2005/09/outbound\"><Ack>true</Ack>\
</notificationsResponse></soapenv:Body></soapenv:Envelope>";

/// Elements within each other; more is nothing that Salesforce sends.
const DEPTH_MAX: usize = 32;

/// One record for each notification: `Id`, `sObject` with its fields, and beside them what stands
/// around the notifications (`OrganizationId`, `ActionId`, …) but the session's id, which is a secret.
pub(super) fn records(text: &str) -> Result<Value, String> {
    let root = element(text)?;
    let envelope = match root {
        (name, Node::Members(members)) if name == "Envelope" => members,
        _ => return Err("the XML is no SOAP envelope".to_owned()),
    };
    let found = child(&envelope, "Body").and_then(|body| child(body, "notifications"));
    let Some(notifications) = found else {
        return Err("the SOAP body holds no notifications".to_owned());
    };
    let around: Vec<(&String, &Node)> = notifications
        .iter()
        .filter(|(name, _)| !["Notification", "SessionId"].contains(&name.as_str()))
        .map(|(name, node)| (name, node))
        .collect();
    let mut records = Vec::new();
    for (name, node) in notifications {
        if name == "Notification" {
            let mut record = match node {
                Node::Members(members) => object(members),
                Node::Nil | Node::Text(_) => Map::new(),
            };
            for (name, node) in &around {
                record.entry((*name).clone()).or_insert_with(|| json(node));
            }
            records.push(Value::Object(record));
        }
    }
    Ok(Value::Array(records))
}

enum Node {
    Nil,
    Text(String),
    Members(Vec<(String, Node)>),
}

fn child<'n>(members: &'n [(String, Node)], name: &str) -> Option<&'n Vec<(String, Node)>> {
    members.iter().find_map(|(found, node)| match node {
        Node::Members(members) if found == name => Some(members),
        _ => None,
    })
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
    let malformed = |reader: &Reader<&[u8]>| format!("malformed XML at byte {}", reader.error_position());
    let open = |start: &BytesStart<'_>| Open {
        name: String::from_utf8_lossy(start.local_name().as_ref()).into_owned(),
        nil: start.attributes().flatten().any(|attribute| {
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
