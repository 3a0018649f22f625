//! A route, and what it gives.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::access::Guard;
use crate::server::Server;

/// A path, and what answers it.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) guard: Guard,
    /// How old an answer may be that another request has got. A flood of requests costs no more than one in this time.
    pub(super) fresh_for: Duration,
    pub(super) answer: fn(&Server) -> Response,
}

/// An answer. The site adds the headers that every answer has.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    /// The Content-Type.
    pub(super) mime: Cow<'static, str>,
    /// Further headers, such as a Content-Security-Policy.
    pub(super) fields: Vec<(&'static str, Cow<'static, str>)>,
    pub(super) body: Body,
}

/// The bytes of an answer. Connections that get the same share them.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
}

impl Response {
    /// An answer with a text that was made for it.
    pub(super) fn ok(mime: &'static str, body: impl Into<Vec<u8>>) -> Response {
        let body = Body::Shared(body.into().into());
        Response { status: 200, mime: mime.into(), fields: Vec::new(), body }
    }

    /// A refusal that says what the reader can do.
    pub(super) fn refusal(status: u16, text: impl Into<String>) -> Response {
        Response { status, ..Response::ok("text/plain; charset=utf-8", text.into()) }
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Response {
        self.fields.push((name, value.into()));
        self
    }
}

impl Body {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Body::Static(bytes) => bytes,
            Body::Shared(bytes) => bytes,
        }
    }
}
