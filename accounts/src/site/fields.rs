//! What is sent in a form.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::header::CONTENT_TYPE,
};
use zeroize::Zeroizing;

use super::{
    Site,
    answer::Failure,
    visitor::{Visitor, is_same},
};

/// Fields that a form may have.
const MOST: usize = 16;

/// The form that browsers send by themselves.
const FORM: &str = "application/x-www-form-urlencoded";

/// The field that shows that a form is of this visit.
const TOKEN: &str = "token";

/// The fields of a form; wiped when dropped.
pub(super) struct Fields(Vec<(String, Zeroizing<String>)>);

impl Fields {
    /// What was written into a field, or nothing.
    pub(super) fn text(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(field, _)| field == name);
        field.map_or("", |(_, text)| text)
    }

    /// What was written into a field, without the blanks around it.
    pub(super) fn trimmed(&self, name: &str) -> &str {
        self.text(name).trim()
    }

    fn read(body: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        for (name, text) in form_urlencoded::parse(body) {
            let text = Zeroizing::new(text.into_owned());
            let is_new = fields.iter().all(|(known, _)| *known != name);
            // Two readers of a form that says something twice might see two things.
            if !is_new || fields.len() == MOST {
                return None;
            }
            fields.push((name.into_owned(), text));
        }
        Some(Self(fields))
    }
}

impl FromRequest<Arc<Site>> for Fields {
    type Rejection = Failure;

    async fn from_request(request: Request, site: &Arc<Site>) -> Result<Self, Failure> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next());
        if !kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM)) {
            return Err(Failure::NotUnderstood);
        }
        let body = Bytes::from_request(request, site).await.map_err(|_| Failure::NotUnderstood)?;
        Self::read(&body).ok_or(Failure::NotUnderstood)
    }
}

/// A form of somebody who is logged in, sent from a page of their visit.
pub(super) struct Sent {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
}

impl FromRequest<Arc<Site>> for Sent {
    type Rejection = Failure;

    async fn from_request(request: Request, site: &Arc<Site>) -> Result<Self, Failure> {
        let visitor = Visitor::of(site, request.headers()).await?.ok_or(Failure::NotIn)?;
        let fields = Fields::from_request(request, site).await?;
        if !is_same(fields.text(TOKEN), &visitor.form_token) {
            return Err(Failure::Stale);
        }
        Ok(Self { visitor, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        let fields = Fields::read(b"email=ann%40example.org&name=+my+laptop%21+").unwrap();
        assert_eq!(fields.text("email"), "ann@example.org");
        assert_eq!(fields.trimmed("name"), "my laptop!");
        assert_eq!(fields.text("other"), "");
    }

    #[test]
    fn field_that_is_there_twice_and_too_many_fields_are_refused() {
        assert!(Fields::read(b"a=1&b=2&a=3").is_none());
        let many: String = (0..=MOST).map(|n| format!("f{n}=&")).collect();
        assert!(Fields::read(many.as_bytes()).is_none());
    }
}
