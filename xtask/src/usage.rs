//! What a process used, from /proc.

use std::fs;

/// CPU time and memory of a process (and, for CPU, of its children that it has waited for).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Resident now, in bytes; 0 once it ended.
    pub resident: u64,
    /// The most that was ever resident, in bytes; 0 once it ended.
    pub peak: u64,
}

impl Usage {
    /// Of a running or ended, not yet waited for, process. None when there is no such process.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        Some(Self {
            cpu_seconds: cpu_seconds(&stat)?,
            resident: kibibytes(&status, "VmRSS:") * 1024,
            peak: kibibytes(&status, "VmHWM:") * 1024,
        })
    }

    /// Both together: CPU adds up, and so does the memory of processes that run side by side.
    pub fn and(self, other: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            resident: self.resident + other.resident,
            peak: self.peak + other.peak,
        }
    }
}

/// Fields 14 to 17 of /proc/PID/stat (proc_pid_stat(5)): utime, stime, cutime, cstime in clock ticks. The name in
/// field 2 may hold spaces and parentheses, so counting starts behind the last one.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: Vec<u64> = rest.split_whitespace().skip(11).take(4).map(|field| field.parse().unwrap_or(0)).collect();
    // USER_HZ is 100 on every architecture that we build for.
    (ticks.len() == 4).then(|| ticks.iter().sum::<u64>() as f64 / 100.0)
}

fn kibibytes(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_behind_a_name_with_parentheses_and_spaces() {
        let stat = "17 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 25 25 20 0 1 0 99";
        assert_eq!(cpu_seconds(stat), Some(2.5));
    }

    #[test]
    fn this_process_is_resident() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 0 && usage.peak >= usage.resident);
    }
}
