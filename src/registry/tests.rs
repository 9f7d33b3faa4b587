use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode as Status;
use axum::response::{IntoResponse, Response};

use super::*;

/// What was asked: path and authorization.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A registry that answers every path with what `answers` says, and anything else with 404.
async fn registry(answers: &'static [(&'static str, u16, &'static str)]) -> (String, Asked) {
    let asked = Asked::default();
    let noted = asked.clone();
    let answer = move |request: Request| {
        let authorization = request.headers().get("authorization");
        let authorization = authorization.map_or("", |value| value.to_str().unwrap()).to_owned();
        let path = request.uri().path().to_owned();
        let found = answers.iter().find(|(known, ..)| *known == path);
        noted.lock().unwrap().push((path, authorization));
        let (status, body) = found.map_or((404, r#"{"error_code":40403}"#), |(_, status, body)| (*status, *body));
        std::future::ready((Status::from_u16(status).unwrap(), body).into_response() as Response)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
    (url, asked)
}

fn client(url: &str) -> Registry {
    Registry::new(url, None, None, Client::new()).unwrap()
}

fn schema(text: &str, references: &[&str]) -> Lookup {
    Lookup::Schema {
        text: text.into(),
        references: references.iter().map(|text| (*text).to_owned()).collect(),
    }
}

#[tokio::test]
async fn answers_are_schemas_or_denials() {
    let (url, _) = registry(&[
        ("/schemas/ids/1", 200, r#"{"schema":"\"int\""}"#),
        (
            "/schemas/ids/2",
            200,
            r#"{"schema":"\"int\"","schemaType":"AVRO","references":[],"new":1}"#,
        ),
        ("/schemas/ids/3", 200, r#"{"schema":"message","schemaType":"PROTOBUF"}"#),
        ("/schemas/ids/4", 200, r#"{"schema":"{}","schemaType":"JSON"}"#),
        (
            "/schemas/guids/00000000-0000-0000-0000-00000000000a",
            200,
            r#"{"schema":"\"long\""}"#,
        ),
    ])
    .await;
    let registry = client(&url);
    for (id, expected) in [
        (SchemaId::Id(1), schema("\"int\"", &[])),
        (SchemaId::Id(2), schema("\"int\"", &[])),
        (
            SchemaId::Id(3),
            Lookup::Denied("it is a Protobuf schema, lead events take Avro".into()),
        ),
        (
            SchemaId::Id(4),
            Lookup::Denied("it is a JSON schema, lead events take Avro".into()),
        ),
        (
            SchemaId::Id(5),
            Lookup::Denied("the schema registry doesn't know it".into()),
        ),
        (SchemaId::Guid(10_u128.to_be_bytes()), schema("\"long\"", &[])),
        (
            SchemaId::Guid([1; 16]),
            Lookup::Denied("the schema registry doesn't know it".into()),
        ),
    ] {
        assert_eq!(registry.schema(id).await.unwrap(), expected, "{id}");
    }
}

#[tokio::test]
async fn references_are_fetched_once_each() {
    let (url, asked) = registry(&[
        (
            "/schemas/ids/1",
            200,
            r#"{"schema":"r","references":[{"name":"A","subject":"a/b c","version":2},{"name":"B","subject":"b","version":1}]}"#,
        ),
        (
            "/subjects/a%2Fb%20c/versions/2",
            200,
            r#"{"schema":"a","references":[{"name":"B","subject":"b","version":1}]}"#,
        ),
        ("/subjects/b/versions/1", 200, r#"{"schema":"b","references":[{"name":"A","subject":"a/b c","version":2}]}"#),
        ("/schemas/ids/2", 200, r#"{"schema":"r","references":[{"name":"C","subject":"c","version":1}]}"#),
        ("/schemas/ids/3", 200, r#"{"schema":"r","references":[{"name":"D","subject":"d","version":1}]}"#),
        ("/subjects/d/versions/1", 200, r#"{"schema":"d","schemaType":"JSON"}"#),
    ])
    .await;
    let registry = client(&url);
    assert_eq!(
        registry.schema(SchemaId::Id(1)).await.unwrap(),
        schema("r", &["a", "b"])
    );
    assert_eq!(asked.lock().unwrap().len(), 3);
    let gone = Lookup::Denied("it refers to c version 1: the schema registry doesn't know it".into());
    assert_eq!(registry.schema(SchemaId::Id(2)).await.unwrap(), gone);
    let other = Lookup::Denied("it refers to d version 1: it is a JSON schema, lead events take Avro".into());
    assert_eq!(registry.schema(SchemaId::Id(3)).await.unwrap(), other);
}

#[tokio::test]
async fn what_is_about_the_id_is_a_denial_and_what_is_about_the_registry_an_error() {
    let (url, _) = registry(&[
        ("/schemas/ids/1", 500, "{}"),
        ("/schemas/ids/2", 429, "{}"),
        ("/schemas/ids/3", 200, "<html>SECRET"),
        ("/schemas/ids/4", 200, r#"{"subject":"SECRET"}"#),
        ("/schemas/ids/5", 401, "{}"),
        ("/schemas/ids/6", 403, "{}"),
        ("/schemas/ids/7", 408, "{}"),
        ("/schemas/ids/8", 302, "{}"),
        ("/schemas/ids/9", 503, "{}"),
        ("/schemas/ids/20", 422, "{}"),
        ("/schemas/ids/21", 400, "SECRET"),
        ("/schemas/ids/22", 410, "{}"),
        ("/schemas/ids/23", 406, "{}"),
    ])
    .await;
    let registry = client(&url.replace("http://", "http://me:SECRET@"));
    for (id, expected) in [
        (1, "answers 500"),
        (2, "answers 429"),
        (3, "can't be read"),
        (4, "can't be read"),
        (5, "refuses our credentials"),
        (6, "refuses our credentials"),
        (7, "answers 408"),
        (8, "answers 302"),
        (9, "answers 503"),
    ] {
        let error = registry.schema(SchemaId::Id(id)).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{id}: {error}");
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
    }
    for (id, status) in [(20, "422"), (21, "400"), (22, "410"), (23, "406")] {
        let Lookup::Denied(why) = registry.schema(SchemaId::Id(id)).await.unwrap() else {
            panic!("{id} is denied")
        };
        assert!(why.contains(status) && !why.contains("SECRET"), "{why}");
    }

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://me:SECRET@{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&url).schema(SchemaId::Id(1)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
}

#[tokio::test]
async fn the_url_may_hold_a_path_and_credentials() {
    let (url, asked) = registry(&[
        ("/schemas/ids/1", 200, r#"{"schema":"x"}"#),
        ("/apis/ccompat/v7/schemas/ids/1", 200, r#"{"schema":"x"}"#),
    ])
    .await;
    let inside = url.replace("http://", "http://inner:p%40ss@");
    // me:word, inner:p@ss
    let (given, inner) = ("Basic bWU6d29yZA==", "Basic aW5uZXI6cEBzcw==");
    for (url, username, path, authorization) in [
        (url.clone(), None, "/schemas/ids/1", ""),
        (format!("{url}/"), Some("me"), "/schemas/ids/1", given),
        (
            format!("{url}/apis/ccompat/v7"),
            None,
            "/apis/ccompat/v7/schemas/ids/1",
            "",
        ),
        (
            format!("{url}/apis/ccompat/v7/?x=1#y"),
            Some("me"),
            "/apis/ccompat/v7/schemas/ids/1",
            given,
        ),
        (inside.clone(), None, "/schemas/ids/1", inner),
        (inside, Some("me"), "/schemas/ids/1", given),
    ] {
        let password = username.map(|_| "word".to_owned());
        let registry = Registry::new(&url, username.map(str::to_owned), password, Client::new()).unwrap();
        assert_eq!(
            registry.schema(SchemaId::Id(1)).await.unwrap(),
            schema("x", &[]),
            "{url}"
        );
        let last = asked.lock().unwrap().pop().unwrap();
        assert_eq!(last, (path.to_owned(), authorization.to_owned()), "{url}");
        let shown = format!("{registry:?}");
        assert!(
            !shown.contains("word") && !shown.contains("p%40ss") && !shown.contains("inner"),
            "{shown}"
        );
    }
}

#[test]
fn urls_that_are_none_are_refused() {
    for url in ["", "registry:8081", "localhost", "file:///schemas", "http://"] {
        let refused = Registry::new(url, None, None, Client::new());
        assert!(matches!(refused, Err(RegistryError::Url)), "{url}");
    }
}

/// A registry whose every answer is `body`, written as far as it gets; counts the bytes.
async fn raw(
    body: impl Fn(usize) -> Option<(Duration, Vec<u8>)> + Send + Sync + Clone + 'static,
) -> (String, Arc<Mutex<usize>>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let written = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&written);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (body, counted) = (body.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut head = [0; 4096];
                drop(stream.read(&mut head).await);
                for number in 0.. {
                    let Some((wait, piece)) = body(number) else { return };
                    tokio::time::sleep(wait).await;
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                    *counted.lock().unwrap() += piece.len();
                }
            });
        }
    });
    (url, written)
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";

#[tokio::test]
async fn an_endless_answer_is_read_no_further_than_its_bound() {
    let (url, written) = raw(|number| {
        let piece = if number == 0 {
            HEAD.to_vec()
        } else {
            vec![b' '; 64 * 1024]
        };
        Some((Duration::ZERO, piece))
    })
    .await;
    let error = client(&url).schema(SchemaId::Id(1)).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge), "{error}");
    // What lies in the buffers of the connection comes on top.
    let written = *written.lock().unwrap();
    assert!(written < 16 * ANSWER_MAX, "{written}");
}

#[tokio::test]
async fn references_share_the_bound_of_what_refers_to_them() {
    let filler = "x".repeat(ANSWER_MAX / 8);
    let answer = move |request: Request| {
        let number = request
            .uri()
            .path()
            .bytes()
            .filter(u8::is_ascii_digit)
            .map(usize::from)
            .sum::<usize>();
        let body = serde_json::json!({"schema": filler, "references": [{"subject": format!("s{number}"), "version": number + 1}]});
        std::future::ready(body.to_string().into_response() as Response)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
    let error = client(&url).schema(SchemaId::Id(1)).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_drips_or_never_begins_ends_at_the_deadline() {
    // A byte a second would keep any time-out between two reads from coming.
    let (dripping, _) = raw(|number| {
        let piece = HEAD.get(number).map_or(b' ', |byte| *byte);
        Some((Duration::from_secs(1), vec![piece]))
    })
    .await;
    let (body_drips, _) = raw(|number| {
        let piece = if number == 0 { HEAD.to_vec() } else { b" ".to_vec() };
        Some((Duration::from_secs(1), piece))
    })
    .await;
    let (silent, _) = raw(|_| Some((Duration::from_secs(3600), Vec::new()))).await;
    for url in [dripping, body_drips, silent] {
        let started = Instant::now();
        let error = client(&url).schema(SchemaId::Id(1)).await.unwrap_err();
        assert!(matches!(error, RegistryError::TimedOut), "{error}");
        assert!(
            started.elapsed() <= LOOK_UP_TIMEOUT + Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn many_ids_are_asked_together_and_within_two_deadlines() {
    let (silent, _) = raw(|_| Some((Duration::from_secs(3600), Vec::new()))).await;
    let ids: Vec<SchemaId> = (0..1000).map(SchemaId::Id).collect();
    let (started, mut answers) = (Instant::now(), 0);
    client(&silent)
        .schemas(&ids, |_, answer| answers += usize::from(answer.is_err()))
        .await;
    assert!(
        started.elapsed() <= 2 * LOOK_UP_TIMEOUT + Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert!((AT_ONCE..=2 * AT_ONCE).contains(&answers), "{answers}");
}

#[tokio::test]
async fn each_of_many_ids_is_answered() {
    let ids: Vec<SchemaId> = (0..40).map(SchemaId::Id).collect();
    let (url, asked) = registry(&[("/schemas/ids/7", 200, r#"{"schema":"x"}"#)]).await;
    let mut answers = Vec::new();
    client(&url)
        .schemas(&ids, |id, answer| answers.push((id, answer.unwrap())))
        .await;
    assert_eq!((answers.len(), asked.lock().unwrap().len()), (40, 40));
    let known: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| *answer == schema("x", &[]))
        .collect();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].0, SchemaId::Id(7));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, asked) = registry(&[("/schemas/ids/1", 200, r#"{"schema":"x"}"#)]).await;
    let (url, _) = raw(move |number| {
        let head = format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}/schemas/ids/1\r\ncontent-length: 0\r\n\r\n");
        (number == 0).then(|| (Duration::ZERO, head.into_bytes()))
    })
    .await;
    let config = SchemaRegistry {
        url: Some(url.into()),
        ..SchemaRegistry::default()
    };
    let registry = Registry::of(&config).unwrap().unwrap();
    let error = registry.schema(SchemaId::Id(1)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Status(StatusCode::FOUND)), "{error}");
    assert!(asked.lock().unwrap().is_empty());
}
