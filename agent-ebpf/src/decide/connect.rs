//! The meaning of connect()'s return value for the attempt.

/// What connect() returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectReturn {
    /// The attempt continues without the caller (a non-blocking socket).
    InProgress,
    /// It succeeded, or its return decides nothing.
    Undecided,
    /// The attempt failed, with this errno.
    Failed(u16),
}

/// Errnos that end no attempt: it continues, or it was made before.
/// `include/uapi/asm-generic/errno.h`.
const EINTR: i64 = -4;
const EISCONN: i64 = -106;
const EALREADY: i64 = -114;
const EINPROGRESS: i64 = -115;
/// Internal to the kernel: the syscall is restarted after a signal (`include/linux/errno.h`).
const ERESTARTSYS: i64 = -512;

/// The meaning of connect()'s `returned` value.
#[inline(always)]
pub const fn connect_return(returned: i64) -> ConnectReturn {
    match returned {
        EINPROGRESS => ConnectReturn::InProgress,
        EINTR | EISCONN | EALREADY | ERESTARTSYS | 0.. => ConnectReturn::Undecided,
        // An errno fits 12 bits (`MAX_ERRNO`, `include/linux/err.h`).
        _ => ConnectReturn::Failed((returned.unsigned_abs() & 0xfff) as u16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::End;

    #[test]
    fn a_connect_that_goes_on_ends_no_attempt() {
        assert_eq!(connect_return(-115), ConnectReturn::InProgress);
        for returned in [0, -4, -106, -114, -512] {
            assert_eq!(
                connect_return(returned),
                ConnectReturn::Undecided,
                "{returned}"
            );
        }
    }

    #[test]
    fn a_failure_inside_connect_has_its_errno() {
        for (returned, end) in [
            (-1, End::Denied),
            (-13, End::Denied),
            (-22, End::Other),
            (-99, End::AddressUnavailable),
            (-101, End::NetworkUnreachable),
            (-111, End::Refused),
            (-113, End::HostUnreachable),
        ] {
            let ConnectReturn::Failed(errno) = connect_return(returned) else {
                panic!("{returned} is a failure");
            };
            assert_eq!(End::from_errno(errno), end, "{returned}");
        }
    }
}
