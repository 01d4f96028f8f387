//! The few files that pages load: all are this site's own, and small.

use std::sync::LazyLock;

use axum::{
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::IntoResponse,
};
use sha2::{Digest, Sha256};

use super::{
    answer::{Answer, Failure},
    pages::InPath,
};

/// Name, type and content.
const FILES: [(&str, &str, &str); 4] = [
    ("style.css", "text/css; charset=utf-8", include_str!("../../site/style.css")),
    ("device.js", "text/javascript; charset=utf-8", include_str!("../../site/device.js")),
    ("qr.js", "text/javascript; charset=utf-8", include_str!("../../site/qr.js")),
    ("icon.svg", "image/svg+xml", include_str!("../../site/icon.svg")),
];

/// Stands in the addresses of files: other files, other addresses, so that browsers may keep them.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    FILES.iter().for_each(|(_, _, content)| hash.update(content));
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
});

/// Answers with a file.
pub(super) async fn show(InPath(name): InPath) -> Answer {
    let file = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, content) = file.ok_or(Failure::NotFound)?;
    let kept = "public, max-age=31536000, immutable";
    Ok(([(CONTENT_TYPE, *kind), (CACHE_CONTROL, kept)], *content).into_response())
}
