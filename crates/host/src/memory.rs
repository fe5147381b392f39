//! The allocator of this process: what is freed goes back to the machine.
//!
//! glibc keeps an arena for each thread and returns memory late. A program that is busy for a second at its start and then sleeps
//! would hold that second's memory for ever.

/// Arenas that threads share.
const ARENAS: libc::c_int = 2;
/// Allocations from this size on are mapped one by one, and unmapped when freed.
const MAPPED_FROM: libc::c_int = 128 * 1024;

/// Makes threads share few arenas, and large allocations return to the machine when they are freed. To be called before threads
/// are started; arenas that exist already stay.
pub fn economise() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: `mallopt` takes plain numbers and may be called at any time; a setting it does not know has no effect.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, ARENAS);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        }
    }
}

/// Returns what is free in the allocator to the machine. It takes a few milliseconds, during which other threads may wait for
/// memory: call it after something large and rare.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: `malloc_trim` takes the locks of the arenas itself and only gives back pages that hold nothing.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident bytes of this process.
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn freed_memory_goes_back() {
        economise();
        let small: Vec<Vec<u8>> = (0..64 * 1024).map(|_| vec![1_u8; 1000]).collect();
        // One allocation above them keeps the top of the heap in place.
        let last = vec![1_u8; 1000];
        let held = resident();
        drop(small);
        give_back();
        let left = resident();
        assert!(cfg!(not(target_env = "gnu")) || left + (40 << 20) < held, "{held} bytes before, {left} after");
        drop(last);
    }
}
