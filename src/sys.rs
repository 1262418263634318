//! What the system says of memory, the machine's and this process's; on Linux from `/proc`, in
//! bytes.
//!
//! Own code, since it is four lines of two files: `sysinfo` does not tell the peak, and `procfs`,
//! which does, takes some twenty seconds to compile.

use std::fs::read_to_string;

/// Memory that programs can still have; `None` where the system does not say.
pub fn free_bytes() -> Option<usize> {
    field("/proc/meminfo", "MemAvailable:")
}

/// Memory that this process holds now; 0 where the system does not say.
pub fn resident_bytes() -> usize {
    status("VmRSS:").unwrap_or(0)
}

/// Of that, what is in no file and shared with nobody; `None` where the system does not say.
pub fn anonymous_bytes() -> Option<usize> {
    status("RssAnon:")
}

/// The most memory that this process held at once, in MiB.
pub fn peak_rss_mib() -> f64 {
    // What `getrusage` says begins with the memory of the process that started this one, such as
    // cargo.
    let peak = status("VmHWM:").unwrap_or_else(|| {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` is valid for writes of one `rusage`, and all-zero bytes are a valid
        // `rusage`, so it is initialised whether or not the call succeeds.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        };
        // Linux counts KiB, macOS bytes.
        usage.ru_maxrss as usize * if cfg!(target_os = "macos") { 1 } else { 1024 }
    });
    peak as f64 / (1 << 20) as f64
}

/// Processor time of this thread; 0 where the system does not say.
pub fn thread_time() -> std::time::Duration {
    let mut time = std::mem::MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` is valid for writes of one `timespec`, and all-zero bytes are a valid one, so
    // it is initialised whether or not the call succeeds.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr());
        time.assume_init()
    };
    std::time::Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.clamp(0, 999_999_999) as u32)
}

fn status(name: &str) -> Option<usize> {
    field("/proc/self/status", name)
}

/// The bytes that a line `name NUMBER kB` of a file tells.
fn field(file: &str, name: &str) -> Option<usize> {
    let text = read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_plausible() {
        let peak = peak_rss_mib();
        assert!(peak > 1.0 && peak < 1e6, "{peak}");
        if cfg!(target_os = "linux") {
            let (resident, anonymous) = (resident_bytes(), anonymous_bytes().unwrap());
            assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
            assert!((1..1 << 40).contains(&anonymous), "{anonymous}");
            assert!(free_bytes().unwrap() > 1 << 20);
        }
    }
}
