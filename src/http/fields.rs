//! The header fields that mean something here, in one table: one pass over a head sorts every line into it.

/// A header field that somebody reads. All are singletons: a second line of one is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// `Host`
    Host,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Connection`
    Connection,
    /// `Expect`
    Expect,
    /// `Content-Type`
    ContentType,
    /// `X-Customer-ID`
    CustomerId,
    /// `BigBunny-Not-Valid-After`
    NotValidAfter,
    /// `BigBunny-Not-Valid-After-Ms`
    NotValidAfterMs,
    /// `BigBunny-Lock-ID`
    LockId,
    /// `BigBunny-Reuse-If-Exists`
    ReuseIfExists,
    /// `BigBunny-Create-If-Missing`
    CreateIfMissing,
    /// `BigBunny-Lock-Wait`
    LockWait,
    /// `BigBunny-Lock-Hold`
    LockHold,
    /// `BigBunny-Lock-Scope`
    LockScope,
    /// `If-Match`
    IfMatch,
    /// `If-None-Match`
    IfNoneMatch,
    /// `Idempotency-Key`
    IdempotencyKey,
    /// `BigBunny-Durability`
    Durability,
    /// `BigBunny-Read`
    Read,
}

impl Field {
    /// How many there are.
    pub const COUNT: usize = Self::Read as usize + 1;
}
