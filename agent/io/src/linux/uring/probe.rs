//! Setting up a ring, and saying clearly why one can't be had.

use io_uring::{IoUring, Probe, opcode};
use rustix::io::Errno;
use std::fmt;

/// Why this system gives us no usable ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeError {
    /// The kernel has no io_uring, or a sandbox hides it (ENOSYS).
    Absent,
    /// A seccomp profile or `kernel.io_uring_disabled` forbids it (EPERM, EACCES).
    Refused,
    /// The rings don't fit into the memory that this process may lock (ENOMEM).
    Memory,
    /// The kernel's io_uring is too old: it lacks this.
    TooOld(&'static str),
    /// Another reason, as the system numbers it.
    Os(i32),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str(
                "io_uring isn't there (ENOSYS): run on Linux 5.11 or later, outside of sandboxes such as gVisor",
            ),
            Self::Refused => f.write_str(
                "io_uring is refused (EPERM): allow io_uring_setup, io_uring_enter and io_uring_register in the \
                 container's seccomp profile, and set the node's sysctl kernel.io_uring_disabled to 0",
            ),
            Self::Memory => f.write_str(
                "io_uring's rings don't fit into memory (ENOMEM): raise the memory limit, and RLIMIT_MEMLOCK on \
                 kernels before 5.12",
            ),
            Self::TooOld(missing) => {
                write!(f, "this kernel's io_uring lacks {missing}: run on Linux 5.11 or later")
            }
            Self::Os(code) => write!(f, "io_uring can't be set up: {}", std::io::Error::from_raw_os_error(*code)),
        }
    }
}

impl std::error::Error for ProbeError {}

impl From<std::io::Error> for ProbeError {
    fn from(error: std::io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::NOSYS) => Self::Absent,
            Some(Errno::PERM | Errno::ACCESS) => Self::Refused,
            Some(Errno::NOMEM) => Self::Memory,
            Some(other) => Self::Os(other.raw_os_error()),
            None => Self::Os(Errno::IO.raw_os_error()),
        }
    }
}

/// Sets up a ring with what this kernel can do for a single thread, and checks that it has all that we use.
pub(super) fn ring(entries: u32) -> Result<IoUring, ProbeError> {
    let ring = build(entries)?;
    let parameters = ring.params();
    if !parameters.is_feature_ext_arg() {
        return Err(ProbeError::TooOld("a wait with a timeout (IORING_FEAT_EXT_ARG)"));
    }
    if !parameters.is_feature_nodrop() {
        return Err(ProbeError::TooOld("completions that are never dropped (IORING_FEAT_NODROP)"));
    }
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let used = [
        (opcode::Accept::CODE, "accept"),
        (opcode::Connect::CODE, "connect"),
        (opcode::Recv::CODE, "receive"),
        (opcode::Send::CODE, "send"),
        (opcode::Write::CODE, "write"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::AsyncCancel::CODE, "cancel"),
    ];
    if let Some((_, name)) = used.iter().find(|(code, _)| !probe.is_supported(*code)) {
        return Err(ProbeError::TooOld(name));
    }
    // A profile may refuse io_uring_enter alone, and a loop that has begun has no other engine.
    ring.submit()?;
    Ok(ring)
}

/// Newer kernels save interrupts when they are told that one thread does it all; older ones answer EINVAL to flags
/// they don't know.
fn build(entries: u32) -> Result<IoUring, ProbeError> {
    let mut plain = IoUring::builder();
    plain.setup_clamp();
    let mut cooperative = plain.clone();
    cooperative.setup_coop_taskrun().setup_taskrun_flag();
    let mut single = cooperative.clone();
    single.setup_single_issuer();
    let mut refused = Errno::INVAL.into();
    for builder in [single, cooperative, plain] {
        match builder.build(entries) {
            Ok(ring) => return Ok(ring),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => refused = error,
            Err(error) => return Err(error.into()),
        }
    }
    Err(refused.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_next_step() {
        let refused = ProbeError::from(std::io::Error::from(Errno::PERM));
        assert_eq!(refused, ProbeError::Refused);
        assert!(refused.to_string().contains("seccomp"));
        assert_eq!(ProbeError::from(std::io::Error::from(Errno::NOSYS)), ProbeError::Absent);
        assert_eq!(ProbeError::from(std::io::Error::from(Errno::NOMEM)), ProbeError::Memory);
    }
}
