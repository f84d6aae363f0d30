//! From the bytes of one connection to its requests, one after another. Pure: owns where in a request the connection is, and
//! every decision about bodies (wait, ask for it, refuse it, drop it); knows no socket, clock or buffer.

use std::mem;

use super::limits::DISCARD_BYTES_MAX;
use crate::api::endpoints::Operation;
use crate::api::{self, ApiError, Door, Prepared};
use crate::http::{
    BodyFraming, ChunkDecoder, Expectation, Head, HeadLimits, HttpError, Method, ReplyFrame, Version, parse_head,
};
use crate::store_id::KeyRing;

/// What is said of a request before anything of it is known.
pub const UNKNOWN_FRAME: ReplyFrame = ReplyFrame { version: Version::Http11, head_only: false, close: true };

/// Never seen: a head that was whole is whole.
const HEAD_LOST: HttpError = HttpError { status: 400, message: "the request head cannot be read again" };

/// What reading a request needs to know.
pub struct Context<'f, 'k> {
    /// How large heads may be.
    pub head_limits: &'f HeadLimits,
    /// For the API.
    pub settings: &'f api::Settings,
    /// Where the connection came in.
    pub door: &'f Door<'f>,
    /// For the API.
    pub keyring: &'k mut KeyRing,
}

/// What the bytes at hand came to.
pub enum Step<'b> {
    /// Nothing yet: more bytes are needed.
    More,
    /// More bytes are needed, and the client waits to be asked for them (`Expect: 100-continue`). Said once a request.
    Ask {
        /// For a refusal instead.
        frame: ReplyFrame,
        /// What is known of the request.
        prepared: Prepared<'b>,
    },
    /// A whole request.
    Request {
        /// For its answer.
        frame: ReplyFrame,
        /// What is known of it without its body.
        prepared: Prepared<'b>,
        /// Its body.
        body: &'b [u8],
    },
    /// The API refuses it. If the frame does not close, the request's body is accounted for; if it does, it may still come.
    Refused {
        /// For the answer.
        frame: ReplyFrame,
        /// What was asked for, if that is known.
        operation: Option<Operation>,
        /// Why.
        error: ApiError,
    },
    /// The framing is broken: nothing behind it can be read.
    Broken {
        /// For the answer.
        frame: ReplyFrame,
        /// Why.
        error: HttpError,
    },
}

/// A request that was there whole.
pub struct WholeRequest<'b> {
    /// For its answer.
    pub frame: ReplyFrame,
    /// What is known of it without its body.
    pub prepared: Prepared<'b>,
    /// Its body.
    pub body: &'b [u8],
    /// How long it is, its body included.
    pub bytes: usize,
}

/// Two buffers of the loop's own: the head and the decoded body of a chunked request, for as long as it is served.
#[derive(Default)]
pub struct ChunkedScratch {
    head: Vec<u8>,
    body: Vec<u8>,
}

/// A chunked request that has not come whole.
struct ChunkedRequest {
    frame: ReplyFrame,
    head: Vec<u8>,
    decoder: ChunkDecoder,
    body: Vec<u8>,
}

/// Which deadline the bytes still missing are under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A head, or its rest.
    Head,
    /// The rest of a body.
    Body,
    /// The rest of a body whose request is answered already.
    Discarded,
}

/// Where in a request a connection is.
enum Phase {
    /// Before or in a head.
    Head,
    /// Head and body together have this many bytes.
    Length { total_bytes: usize },
    /// The head is kept aside, the body is decoded as it comes.
    Chunked(Box<ChunkedRequest>),
    /// The body of a refused request is dropped as it comes.
    Discard { left_bytes: u64 },
}

/// Reads the requests of one connection.
pub struct Intake {
    phase: Phase,
    /// How far the end of the head was searched.
    scanned: usize,
}

impl Intake {
    /// Before the first request.
    #[allow(clippy::new_without_default, reason = "it stands for a connection, which begins somewhere")]
    pub const fn new() -> Self {
        Self { phase: Phase::Head, scanned: 0 }
    }

    /// What the connection waits for when it waits.
    pub fn missing(&self) -> Missing {
        match self.phase {
            Phase::Head => Missing::Head,
            Phase::Length { .. } | Phase::Chunked(_) => Missing::Body,
            Phase::Discard { .. } => Missing::Discarded,
        }
    }

    /// Whether part of a request was taken out of the input and is kept here.
    pub fn holds_part(&self) -> bool {
        matches!(self.phase, Phase::Chunked(_) | Phase::Discard { .. })
    }

    /// Reads on in `bytes`, all that has come and was not consumed: how many are consumed now, and what they came to. Unless it
    /// says [`Step::More`] or [`Step::Ask`], it is to be called again with the rest.
    pub fn next<'b>(
        &mut self,
        bytes: &'b [u8],
        scratch: &'b mut ChunkedScratch,
        context: &mut Context<'b, '_>,
    ) -> (usize, Step<'b>) {
        match &mut self.phase {
            Phase::Head => self.read_head(bytes, scratch, context),
            Phase::Length { total_bytes } => {
                let total_bytes = *total_bytes;
                if bytes.len() < total_bytes {
                    return (0, Step::More);
                }
                self.phase = Phase::Head;
                self.read_head(bytes, scratch, context)
            }
            Phase::Chunked(request) => match request.decoder.decode(bytes, &mut request.body) {
                Err(error) => {
                    let frame = request.frame;
                    self.phase = Phase::Head;
                    (bytes.len(), Step::Broken { frame, error })
                }
                Ok((eaten, false)) => (eaten, Step::More),
                Ok((eaten, true)) => {
                    if let Phase::Chunked(request) = mem::replace(&mut self.phase, Phase::Head) {
                        scratch.head = request.head;
                        scratch.body = request.body;
                    }
                    (eaten, whole_again(scratch, context))
                }
            },
            Phase::Discard { left_bytes } => {
                let dropped = usize::try_from(*left_bytes).unwrap_or(usize::MAX).min(bytes.len());
                *left_bytes -= dropped as u64;
                if *left_bytes > 0 {
                    return (dropped, Step::More);
                }
                self.phase = Phase::Head;
                let (consumed, step) = self.read_head(&bytes[dropped..], scratch, context);
                (dropped + consumed, step)
            }
        }
    }

    /// The request at the start of `bytes`, if it is there whole, does not come in chunks and is not to be refused, and if nothing has been
    /// made of these bytes yet; anything else is for [`Self::next`], which would say the same of it. Nothing is changed, so that several
    /// can be read before the first is served. Its store id is not opened yet ([`Prepared::open`]).
    pub fn whole_request<'b>(&self, bytes: &'b [u8], context: &Context<'b, '_>) -> Option<WholeRequest<'b>> {
        if bytes.is_empty() || !matches!(self.phase, Phase::Head) || self.scanned != 0 {
            return None;
        }
        // By reference: a head is large.
        let parsed = parse_head(bytes, &mut 0, context.head_limits);
        let Ok(Some((head, head_bytes))) = &parsed else { return None };
        let body_bytes = match head.body {
            BodyFraming::Empty => 0,
            BodyFraming::Length(length) => usize::try_from(length).ok()?,
            BodyFraming::Chunked => return None,
        };
        let body = bytes[*head_bytes..].get(..body_bytes)?;
        let prepared = api::prepare_sealed(head, context.door, context.settings).ok()?;
        if body_bytes > prepared.body_limit() {
            return None;
        }
        Some(WholeRequest { frame: frame_of(head, context.door), prepared, body, bytes: head_bytes + body_bytes })
    }

    fn read_head<'b>(
        &mut self,
        bytes: &'b [u8],
        scratch: &'b mut ChunkedScratch,
        context: &mut Context<'b, '_>,
    ) -> (usize, Step<'b>) {
        if bytes.is_empty() {
            return (0, Step::More);
        }
        // By reference: a head is large.
        let parsed = parse_head(bytes, &mut self.scanned, context.head_limits);
        let (head, head_bytes) = match &parsed {
            Ok(Some((head, head_bytes))) => (head, *head_bytes),
            Ok(None) => return (0, Step::More),
            Err(error) => return (bytes.len(), Step::Broken { frame: UNKNOWN_FRAME, error: *error }),
        };
        self.scanned = 0;
        let frame = frame_of(head, context.door);
        let rest = &bytes[head_bytes..];
        let prepared = match api::prepare(head, context.door, context.settings, context.keyring) {
            Ok(prepared) => prepared,
            Err(error) => return self.refuse(head, head_bytes, rest.len(), frame, error),
        };
        match head.body {
            BodyFraming::Empty => (head_bytes, Step::Request { frame, prepared, body: &[] }),
            BodyFraming::Length(length) => {
                let limit = prepared.body_limit();
                let Some(length) = usize::try_from(length).ok().filter(|&length| length <= limit) else {
                    // What is too large is not even dropped: it may be without end.
                    let frame = ReplyFrame { close: true, ..frame };
                    let operation = Some(prepared.reply_shape().operation);
                    return (bytes.len(), Step::Refused { frame, operation, error: ApiError::too_large(limit) });
                };
                if let Some(body) = rest.get(..length) {
                    return (head_bytes + length, Step::Request { frame, prepared, body });
                }
                self.phase = Phase::Length { total_bytes: head_bytes + length };
                (0, ask_or_wait(head, rest, frame, prepared))
            }
            BodyFraming::Chunked => {
                let mut decoder = ChunkDecoder::new(prepared.body_limit());
                scratch.body.clear();
                match decoder.decode(rest, &mut scratch.body) {
                    Err(error) => (bytes.len(), Step::Broken { frame, error }),
                    Ok((eaten, true)) => (head_bytes + eaten, Step::Request { frame, prepared, body: &scratch.body }),
                    Ok((eaten, false)) => {
                        let step = ask_or_wait(head, rest, frame, prepared);
                        let head = bytes[..head_bytes].to_vec();
                        let body = scratch.body.clone();
                        self.phase = Phase::Chunked(Box::new(ChunkedRequest { frame, head, decoder, body }));
                        (head_bytes + eaten, step)
                    }
                }
            }
        }
    }

    /// Refuses a request whose body may still come. Whether the connection goes on depends on the head alone, never on how
    /// the bytes happened to arrive: it does if the body is short and its length known, and the client sends it unasked.
    fn refuse<'b>(
        &mut self,
        head: &Head<'_>,
        head_bytes: usize,
        rest_bytes: usize,
        frame: ReplyFrame,
        error: ApiError,
    ) -> (usize, Step<'b>) {
        let operation = api::operation_of(head);
        let length = match head.body {
            BodyFraming::Empty => Some(0),
            BodyFraming::Length(length) => (length <= DISCARD_BYTES_MAX).then_some(length),
            BodyFraming::Chunked => None,
        };
        match (length, head.expectation) {
            (Some(length), Expectation::None) | (Some(length @ 0), _) => {
                let come = length.min(rest_bytes as u64);
                if come < length {
                    self.phase = Phase::Discard { left_bytes: length - come };
                }
                (head_bytes + come as usize, Step::Refused { frame, operation, error })
            }
            _ => {
                let frame = ReplyFrame { close: true, ..frame };
                (head_bytes + rest_bytes, Step::Refused { frame, operation, error })
            }
        }
    }
}

/// Whether the client must be asked for the body: not if it has begun to send it.
fn ask_or_wait<'b>(head: &Head<'_>, rest: &[u8], frame: ReplyFrame, prepared: Prepared<'b>) -> Step<'b> {
    if head.expectation == Expectation::Continue && rest.is_empty() {
        Step::Ask { frame, prepared }
    } else {
        Step::More
    }
}

/// Takes a chunked request apart again whose body has become whole; its head was good once already.
fn whole_again<'b>(scratch: &'b ChunkedScratch, context: &mut Context<'b, '_>) -> Step<'b> {
    let Ok(Some((head, _))) = parse_head(&scratch.head, &mut 0, context.head_limits) else {
        return Step::Broken { frame: UNKNOWN_FRAME, error: HEAD_LOST };
    };
    let frame = frame_of(&head, context.door);
    // The keys may have changed since, so it may fail now; its body has come, so the connection goes on all the same.
    match api::prepare(&head, context.door, context.settings, context.keyring) {
        Ok(prepared) => Step::Request { frame, prepared, body: &scratch.body },
        Err(error) => Step::Refused { frame, operation: api::operation_of(&head), error },
    }
}

/// How the answer to a request is to look. At the place that is kept for operators a connection has one request, so that
/// nobody stays there.
fn frame_of(head: &Head<'_>, door: &Door<'_>) -> ReplyFrame {
    let close = !head.keep_alive || matches!(door, Door::Operators);
    ReplyFrame { version: head.version, head_only: head.method == Method::Head, close }
}

#[cfg(test)]
mod tests;
