//! Log levels.

/// The SDK's levels, in ascending severity.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum dap_log_level {
    L_DEBUG = 0,
    L_INFO = 1,
    L_NOTICE = 2,
    L_MSG = 3,
    L_DAP = 4,
    L_WARNING = 5,
    L_ATT = 6,
    L_ERROR = 7,
    L_CRITICAL = 8,
    L_TOTAL = 9,
}
pub type dap_log_level_t = dap_log_level;
