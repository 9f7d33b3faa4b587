//! The files that pages load: one style sheet, the icons, htmx and the desk's own script, all part of the binary.
//!
//! The address of a file has its content's sum, so that browsers keep it for good.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

/// Paths of files begin so.
pub(super) const BASE: &str = "/assets/";
/// The route.
pub(super) const ROUTE: &str = "/assets/{sum}/{name}";

struct File {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const FILES: [File; 5] = [
    File {
        name: "desk.css",
        kind: "text/css; charset=utf-8",
        content: include_bytes!("assets/desk.css"),
    },
    File {
        name: "icons.svg",
        kind: "image/svg+xml",
        content: include_bytes!("assets/icons.svg"),
    },
    File {
        name: "htmx.min.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/htmx.min.js"),
    },
    File {
        name: "desk.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/desk.js"),
    },
    // Of what others wrote.
    File {
        name: "htmx.LICENSE",
        kind: "text/plain; charset=utf-8",
        content: include_bytes!("assets/htmx.LICENSE"),
    },
];

/// The sum of all files.
static SUM: LazyLock<String> = LazyLock::new(|| {
    let mut all = Sha256::new();
    FILES.iter().for_each(|file| all.update(file.content));
    let digest = all.finalize();
    digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
});

/// The address of a file.
pub(super) fn address(name: &str) -> String {
    format!("{BASE}{}/{name}", *SUM)
}

/// Gives a file. A page of an older version may ask for a file that was; it gets the one that is.
pub(super) async fn file(Path((sum, name)): Path<(String, String)>) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let keep = match sum == *SUM {
        true => "public, max-age=31536000, immutable",
        false => "no-store",
    };
    let headers = [(header::CONTENT_TYPE, file.kind), (header::CACHE_CONTROL, keep)];
    (headers, file.content).into_response()
}
