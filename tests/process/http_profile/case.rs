//! What a case of the profile is: an input, the answers it must get, and what becomes of the connection.

use crate::support::{Answer, Daemon};

/// The valid request that follows, and ends the connection.
pub(crate) const PROBE: &[u8] =
    b"GET /api/v1/named/probe HTTP/1.1\r\nHost: a\r\nX-Customer-ID: probe\r\nConnection: close\r\n\r\n";
pub(crate) const PROBE_BODY: &str = "the probe's body";

/// How an input is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    Bytes,
    Cut(usize),
    Followed,
    /// Both.
    CutFollowed(usize),
}

impl Delivery {
    /// The valid request comes in one write with the input's end.
    pub(crate) fn is_followed(self) -> bool {
        match self {
            Self::Followed | Self::CutFollowed(_) => true,
            Self::Whole | Self::Bytes | Self::Cut(_) => false,
        }
    }
}

/// Which daemon a case needs.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    Usual,
    Hasty,
    Large,
}

/// What becomes of the connection behind the last answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// `c` in the profile.
    Closed,
    Open,
    /// As the last answer's `Connection` says.
    AsTold,
}

pub(crate) type Check = fn(&Answer) -> Result<(), String>;
pub(crate) type After = fn(&Daemon) -> Result<(), String>;

/// One final answer.
#[derive(Clone)]
pub(crate) struct Want {
    /// The preferred status first.
    pub(crate) statuses: Vec<u16>,
    /// It answers a `HEAD`.
    pub(crate) head: bool,
    pub(crate) check: Check,
}

/// One input of a case; a case may have several.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) id: &'static str,
    /// Where the rule stands, as in the profile: sections of RFC 9112, or of RFC 9110 where that is named.
    pub(crate) rule: &'static str,
    pub(crate) input: Vec<u8>,
    pub(crate) wants: Vec<Want>,
    pub(crate) ends: Ends,
    pub(crate) which: Which,
    /// The client half-closes behind the input.
    pub(crate) end_sending: bool,
    /// To be closed without an answer is right, too.
    pub(crate) silence_will_do: bool,
    /// `100 Continue` may come first.
    pub(crate) may_continue: bool,
    pub(crate) most_answer_bytes: usize,
    /// Statuses that are right when a valid request follows, because it is then read as part of the body.
    pub(crate) also_when_followed: &'static [u16],
    /// What must hold when all deliveries are done.
    pub(crate) after: Option<After>,
}

impl Case {
    fn new(id: &'static str, rule: &'static str, input: impl Into<Vec<u8>>, statuses: &[&[u16]], ends: Ends) -> Self {
        let wants = statuses
            .iter()
            .map(|statuses| Want { statuses: statuses.to_vec(), head: false, check: |_| Ok(()) })
            .collect();
        Self {
            id,
            rule,
            input: input.into(),
            wants,
            ends,
            which: Which::Usual,
            end_sending: false,
            silence_will_do: false,
            may_continue: false,
            most_answer_bytes: usize::MAX,
            also_when_followed: &[],
            after: None,
        }
    }

    /// The input gets these answers, and the connection lives on.
    pub(crate) fn open(id: &'static str, rule: &'static str, input: impl Into<Vec<u8>>, statuses: &[&[u16]]) -> Self {
        Self::new(id, rule, input, statuses, Ends::Open)
    }

    /// The input gets these answers, and the connection ends.
    pub(crate) fn closed(id: &'static str, rule: &'static str, input: impl Into<Vec<u8>>, statuses: &[&[u16]]) -> Self {
        Self::new(id, rule, input, statuses, Ends::Closed)
    }

    pub(crate) fn ends(self, ends: Ends) -> Self {
        Self { ends, ..self }
    }

    pub(crate) fn on(self, which: Which) -> Self {
        Self { which, ..self }
    }

    pub(crate) fn end_sending(self) -> Self {
        Self { end_sending: true, ..self }
    }

    pub(crate) fn or_silence(self) -> Self {
        Self { silence_will_do: true, ..self }
    }

    pub(crate) fn may_continue(self) -> Self {
        Self { may_continue: true, ..self }
    }

    pub(crate) fn most_answer_bytes(self, most_answer_bytes: usize) -> Self {
        Self { most_answer_bytes, ..self }
    }

    pub(crate) fn also_when_followed(self, also_when_followed: &'static [u16]) -> Self {
        Self { also_when_followed, ..self }
    }

    /// What else must hold for answer `number`, from 1.
    pub(crate) fn check(mut self, number: usize, check: Check) -> Self {
        self.wants[number - 1].check = check;
        self
    }

    /// Answer `number`, from 1, is for a `HEAD`.
    pub(crate) fn head(mut self, number: usize) -> Self {
        self.wants[number - 1].head = true;
        self
    }

    pub(crate) fn after(self, after: After) -> Self {
        Self { after: Some(after), ..self }
    }
}

/// What holds for every answer of the daemon.
pub(crate) fn check_form(answer: &Answer, head: bool) -> Result<(), String> {
    let date = answer.header("Date").ok_or("no Date")?;
    if date.len() != 29 || !date.ends_with(" GMT") {
        return Err(format!("Date: {date}"));
    }
    for name in ["Date", "Content-Length", "Content-Type", "Connection"] {
        if answer.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count() > 1 {
            return Err(format!("{name} stands twice"));
        }
    }
    if answer.status == 405 && answer.header("Allow").is_none() {
        return Err("405 without Allow".into());
    }
    if answer.status >= 400 && !head && answer.status != 401 {
        if !answer.header("Content-Type").is_some_and(|kind| kind.starts_with("text/plain")) {
            return Err(format!("an error of type {:?}", answer.header("Content-Type")));
        }
        let text = str::from_utf8(&answer.body).map_err(|_| "an error that is no text")?;
        if text.trim().is_empty() || text.trim_end_matches('\n').chars().any(char::is_control) {
            return Err(format!("an error that is not one line: {text:?}"));
        }
    }
    Ok(())
}

pub(crate) fn equal(answer: &Answer, body: &str) -> Result<(), String> {
    if answer.body == body.as_bytes() {
        Ok(())
    } else {
        Err(format!("expected the body {body:?}, got {:?}", crate::support::shown(&answer.body)))
    }
}

/// The marker that inputs hold where an echo of them is looked for.
pub(crate) const MARKER: &str = "Zebra17";

/// Nothing of the input is in the answer.
pub(crate) fn no_echo(answer: &Answer) -> Result<(), String> {
    let holds = |text: &str| text.contains(MARKER);
    if answer.headers.iter().any(|(name, value)| holds(name) || holds(value))
        || holds(&String::from_utf8_lossy(&answer.body))
    {
        return Err(format!("the answer echoes the input: {answer:?}"));
    }
    Ok(())
}

/// No store of this customer may exist.
pub(crate) fn no_stores(daemon: &Daemon, customer: &str) -> Result<(), String> {
    let request = format!("GET /api/v1/named HTTP/1.1\r\nHost: a\r\nX-Customer-ID: {customer}\r\n\r\n");
    equal(&daemon.ask(request.as_bytes()), "{\"names\":[]}")
}

/// A good `GET` of the probe, with more header lines, each ended by CRLF.
pub(crate) fn get_with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /api/v1/named/probe HTTP/1.1\r\nHost: a\r\nX-Customer-ID: probe\r\n", lines.as_ref(), b"\r\n"].concat()
}

/// A `GET` of any target.
pub(crate) fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET ", target.as_ref(), b" HTTP/1.1\r\nHost: a\r\nX-Customer-ID: probe\r\n\r\n"].concat()
}

/// A `PUT` by name of a customer, with more header lines, each ended by CRLF, and what follows the head.
pub(crate) fn put(customer: &str, name: &str, lines: impl AsRef<[u8]>, rest: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("PUT /api/v1/named/{name} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: {customer}\r\n");
    [head.as_bytes(), lines.as_ref(), b"\r\n", rest.as_ref()].concat()
}

/// A `GET` by name of a customer.
pub(crate) fn get_named(customer: &str, name: &str) -> Vec<u8> {
    format!("GET /api/v1/named/{name} HTTP/1.1\r\nHost: a\r\nX-Customer-ID: {customer}\r\n\r\n").into_bytes()
}
