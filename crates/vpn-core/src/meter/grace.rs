//! The bound of service without payment.

use std::net::IpAddr;
use std::time::Duration;

/// How much grace is given. The default is what a server without these keys gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceLimits {
    /// The time after which a source's use, and that of all, is forgotten.
    pub window: Duration,
    /// The longest grace.
    pub time: Duration,
    /// The most bytes of one grace.
    pub bytes: u64,
    /// The graces of one source at the same time.
    pub source_at_once: u32,
    /// The time of all graces of one source in a window.
    pub source_time: Duration,
    /// The bytes of all graces of one source in a window.
    pub source_bytes: u64,
    /// The graces at the same time.
    pub total_at_once: u32,
    /// The bytes of all graces in a window.
    pub total_bytes: u64,
    /// The sources that are remembered. While there are so many, a new one gets no grace.
    pub sources: usize,
}

/// The bounds of one grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceLimit {
    /// The longest time.
    pub time: Duration,
    /// The most bytes.
    pub bytes: u64,
}

/// Why there is no grace.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraceRefusal {
    /// The source has as many graces at the same time as it may.
    #[error("the address is in grace already")]
    SourceAtOnce,
    /// The source has used its time or bytes.
    #[error("the address has used its grace")]
    SourceUsed,
    /// There are as many graces at the same time as may be.
    #[error("too many clients are in grace")]
    TotalAtOnce,
    /// All graces together have used the bytes of the window.
    #[error("the bytes of grace are used")]
    TotalUsed,
    /// As many sources are remembered as may be.
    #[error("too many addresses were in grace")]
    Sources,
}

/// Which source may have how much grace. An IPv4 address is a source, and so is an IPv6 network of 64 bits.
#[derive(Debug)]
pub struct Grace {
    limits: GraceLimits,
}

impl Grace {
    /// Creates the table.
    pub fn new(limits: GraceLimits) -> Grace {
        Grace { limits }
    }

    /// Grants a source one grace, and reserves what it may use. Each is given back by [`Grace::release`].
    pub fn admit(&mut self, now: Duration, source: IpAddr) -> Result<GraceLimit, GraceRefusal> {
        let _ = (now, source, self.limits);
        todo!()
    }

    /// Ends a grace that [`Grace::admit`] granted with `limit`, of which `time` and `bytes` were used.
    pub fn release(&mut self, now: Duration, source: IpAddr, limit: GraceLimit, time: Duration, bytes: u64) {
        let _ = (now, source, limit, time, bytes);
        todo!()
    }
}
