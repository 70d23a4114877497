//! What the kernel says about this process.

use rustix::time::{ClockId, clock_gettime};

/// Processor time of all threads since the start, in seconds.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Resident memory in bytes (`VmRSS`, proc_pid_status(5)); 0 where the kernel doesn't say.
pub fn resident_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status").ok().and_then(|text| vm_rss(&text)).unwrap_or(0)
}

fn vm_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(vm_rss("Name:\tx\nVmHWM:\t  99 kB\nVmRSS:\t    5120 kB\nThreads:\t1\n"), Some(5120 * 1024));
        assert_eq!(vm_rss("Name:\tx\n"), None);
        assert!(resident_bytes() > 0 && cpu_seconds() >= 0.0);
    }
}
