//! Bytes become records: JSON, a form, CSV, an Outbound Message.

use serde_json::{Map, Value};

use super::{Format, Inlet, outbound};

/// What came over HTTP, or stands in a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received<'a> {
    pub body: &'a [u8],
    pub content_type: Option<&'a str>,
    /// The URL's path beyond the inlet's name, such as `v1/track`.
    pub route: &'a str,
}

/// Records that came together, each of which stands alone.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub records: Vec<Value>,
    /// What paths find beside a record: `_batch`, the object that a list of records stood in, and
    /// `_route`, the last step of the URL's path.
    pub(super) around: Map<String, Value>,
}

impl Batch {
    /// Whether the records stood in a list inside a further object.
    pub fn is_split(&self) -> bool {
        self.around.contains_key("_batch")
    }
}

impl Inlet {
    /// The records of a body. The error is for whoever sent it, and quotes nothing of it.
    pub fn decode(&self, received: &Received<'_>) -> Result<Batch, String> {
        let route = received.route.rsplit('/').next().unwrap_or_default();
        let value = match self.format(received.content_type) {
            Format::Json => json(received.body)?,
            Format::Form => form(received.body)?,
            Format::Csv => csv(received.body)?,
            Format::OutboundMessage => outbound::records(text(received.body)?)?,
            Format::Avro => return Err("Avro is read from topics only".to_owned()),
        };
        self.batch(value, route)
    }

    /// The records of a value that was decoded already.
    pub fn batch(&self, value: Value, route: &str) -> Result<Batch, String> {
        let mut around = Map::new();
        if !route.is_empty() {
            around.insert("_route".to_owned(), route.into());
        }
        let split = self.mapping.split.as_ref();
        let records = match (value, split) {
            (Value::Array(records), _) => records,
            (value @ Value::Object(_), Some(path)) if path.follow(&value).is_some_and(Value::is_array) => {
                let Some(Value::Array(records)) = path.follow(&value).cloned() else {
                    unreachable!("it is a list");
                };
                let Value::Object(mut batch) = value else {
                    unreachable!("it is an object");
                };
                batch.shift_remove(path.root());
                around.insert("_batch".to_owned(), Value::Object(batch));
                records
            }
            (Value::Object(_), Some(path)) if ["batch", "import"].contains(&route) => {
                return Err(format!("{path} is no list"));
            }
            (value @ Value::Object(_), _) => vec![value],
            _ => return Err("the body is no JSON object or list of them".to_owned()),
        };
        Ok(Batch { records, around })
    }

    /// The form that the Content-Type names, where the inlet takes it, else the inlet's first.
    fn format(&self, content_type: Option<&str>) -> Format {
        let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
        let named = match essence.trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => Some(Format::Form),
            "text/csv" => Some(Format::Csv),
            "text/xml" | "application/xml" | "application/soap+xml" => Some(Format::OutboundMessage),
            "application/json" => Some(Format::Json),
            _ => None,
        };
        let taken = named.filter(|format| self.takes(*format));
        taken.unwrap_or(self.mapping.decode[0])
    }
}

fn text(body: &[u8]) -> Result<&str, String> {
    let text =
        std::str::from_utf8(body).map_err(|error| format!("no UTF-8 from byte {} on", error.valid_up_to() + 1))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn json(body: &[u8]) -> Result<Value, String> {
    serde_json::from_str(text(body)?).map_err(|error| {
        // serde_json quotes nothing but names of fields, and there are none here.
        format!("malformed JSON at line {}, column {}", error.line(), error.column())
    })
}

/// A name that is given twice has a list of values.
fn form(body: &[u8]) -> Result<Value, String> {
    let mut members = Map::new();
    for (name, value) in form_urlencoded::parse(text(body)?.as_bytes()) {
        let value = Value::String(value.into_owned());
        match members.get_mut(&*name) {
            None => {
                members.insert(name.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    if members.is_empty() {
        return Err("the form is empty".to_owned());
    }
    Ok(Value::Object(members))
}

/// A line of titles, then a record a line.
fn csv(body: &[u8]) -> Result<Value, String> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(false)
        .from_reader(text(body)?.as_bytes());
    let malformed = |error: csv::Error| match error.position() {
        Some(at) => format!("malformed CSV at line {}", at.line()),
        None => "malformed CSV".to_owned(),
    };
    let titles = reader.headers().map_err(malformed)?.clone();
    let records = reader.records().map(|record| {
        let record = record.map_err(malformed)?;
        let cells = titles.iter().zip(&record);
        Ok(Value::Object(
            cells
                .map(|(title, cell)| (title.trim().to_owned(), cell.into()))
                .collect(),
        ))
    });
    Ok(Value::Array(records.collect::<Result<_, String>>()?))
}
