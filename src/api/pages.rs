//! What the shell answers without asking the node for an operation: health, status, metrics, and an operator's release of a lock.

use std::borrow::Cow;

use super::Page;
use super::endpoints::all_methods;
use super::errors::{ApiError, Code, write_api_error};
use crate::http::{AnswerWriter, HttpDate, ReplyFrame, header};
use crate::metrics::metrics_text;
use crate::node::{NodeStatus, Role};
use crate::status::{ShellStatus, status_json};

/// A page as it is now.
pub struct Rendered {
    /// The status of the answer.
    pub status: u16,
    content_type: Option<&'static str>,
    body: Cow<'static, str>,
}

/// Makes a page.
#[must_use]
pub fn render_page(page: Page, node: &NodeStatus, shell: &ShellStatus<'_>) -> Rendered {
    let (status, content_type, body) = match page {
        Page::Options => (204, None, Cow::Borrowed("")),
        Page::Status => (200, Some("application/json"), status_json(node, shell).into()),
        Page::Metrics => (200, Some("text/plain; version=0.0.4; charset=utf-8"), metrics_text(node, shell).into()),
        Page::Readyz if node.role == Role::Joining => (503, Some("text/plain"), "this node is JOINING\n".into()),
        Page::Healthz | Page::Readyz => (200, Some("text/plain"), "ok\n".into()),
    };
    Rendered { status, content_type, body }
}

/// Writes a page behind whatever `out` holds.
pub fn write_page(out: &mut Vec<u8>, frame: &ReplyFrame, date: &HttpDate, page: Page, rendered: &Rendered) {
    let mut writer = AnswerWriter::start(out, rendered.status, frame, date);
    if page == Page::Options {
        header!(writer, "Allow", all_methods().allow().as_bytes());
    }
    writer.body(rendered.content_type, rendered.body.as_bytes());
}

/// Writes the answer to `/internal/release-lock/ID`.
pub fn write_released(out: &mut Vec<u8>, frame: &ReplyFrame, date: &HttpDate, released: bool) {
    if released {
        AnswerWriter::start(out, 200, frame, date).body(None, b"");
    } else {
        write_api_error(
            out,
            frame,
            date,
            &ApiError::of(Code::NotFound).saying("nobody holds the lock of such a store"),
        );
    }
}
