//! What the shell answers without asking the node for an operation: health, status, metrics, and an operator's release of a lock.

use super::Page;
use super::endpoints::all_methods;
use super::errors::{ApiError, Code, write_api_error};
use crate::http::{AnswerWriter, HttpDate, ReplyFrame};
use crate::node::{NodeStatus, Role};
use crate::status::{ShellStatus, metrics_text, status_json};

/// Writes a page behind whatever `out` holds.
pub fn write_page(
    out: &mut Vec<u8>,
    frame: &ReplyFrame,
    date: &HttpDate,
    page: Page,
    node: &NodeStatus,
    shell: &ShellStatus<'_>,
) {
    let is_ready = node.role != Role::Joining;
    let status = match page {
        Page::Options => 204,
        Page::Readyz if !is_ready => 503,
        Page::Status | Page::Metrics | Page::Healthz | Page::Readyz => 200,
    };
    let mut writer = AnswerWriter::start(out, status, frame, date);
    match page {
        Page::Options => {
            writer.header("Allow", all_methods().allow().as_bytes());
            writer.body(None, b"");
        }
        Page::Status => writer.body(Some("application/json"), status_json(node, shell).as_bytes()),
        Page::Metrics => {
            writer.body(Some("text/plain; version=0.0.4; charset=utf-8"), metrics_text(node, shell).as_bytes());
        }
        Page::Readyz if !is_ready => writer.body(Some("text/plain"), b"this node is JOINING\n"),
        Page::Healthz | Page::Readyz => writer.body(Some("text/plain"), b"ok\n"),
    }
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
