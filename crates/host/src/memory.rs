//! The memory of this process: what it does not need any more goes back to the machine.
//!
//! A program that is busy for a second at its start and then sleeps would hold that second's memory for ever: glibc keeps an arena
//! for each thread and returns memory late, and code that ran once stays mapped.

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

/// Returns what is free in the allocator, and the program's code, to the machine; code that is needed again is mapped again out of
/// the page cache, piece by piece. It takes a few milliseconds, during which other threads may wait for memory: call it after
/// something large and rare.
pub fn give_back() {
    // SAFETY: the loader calls the function with objects that cannot be unloaded before it returns.
    unsafe {
        libc::dl_iterate_phdr(Some(give_back_code), std::ptr::null_mut());
    }
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: `malloc_trim` takes the locks of the arenas itself and only gives back pages that hold nothing.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// Lets go of the code of one loaded object, the program or a library.
///
/// # Safety
/// `object` must be valid, and stay loaded until this returns.
unsafe extern "C" fn give_back_code(object: *mut libc::dl_phdr_info, _: usize, _: *mut libc::c_void) -> libc::c_int {
    // SAFETY: by contract. The name and the program headers belong to the object.
    let (address, is_file, segments) = unsafe {
        let object = &*object;
        let name = std::ffi::CStr::from_ptr(object.dlpi_name).to_bytes();
        // The program's own name is empty; the kernel's object has no file.
        let is_file = name.is_empty() || name.starts_with(b"/");
        (object.dlpi_addr, is_file, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    let page = libc::Elf64_Addr::try_from(rustix::param::page_size()).unwrap_or(1 << 16);
    let code =
        segments.iter().filter(|s| s.p_type == libc::PT_LOAD && s.p_flags & (libc::PF_X | libc::PF_W) == libc::PF_X);
    for segment in code.filter(|_| is_file) {
        let start = address + segment.p_vaddr;
        let aligned = start - start % page;
        let (Ok(from), Ok(length)) = (usize::try_from(aligned), usize::try_from(start - aligned + segment.p_memsz))
        else {
            continue;
        };
        // SAFETY: a segment that nobody may write to holds what is in its file; what is dropped is read from there on the next access.
        unsafe {
            libc::madvise(from as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident bytes of this process.
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    /// Resident bytes of this program's code and its libraries', from smaps.
    fn resident_code() -> usize {
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut is_code, mut sum) = (false, 0);
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                [range, rights, .., file] if range.contains('-') => is_code = rights == "r-xp" && file.starts_with('/'),
                ["Rss:", kilobytes, _] if is_code => sum += kilobytes.parse::<usize>().unwrap() * 1024,
                _ => {}
            }
        }
        sum
    }

    #[test]
    fn code_that_nobody_runs_goes_back() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        // Reading all code maps all of it.
        unsafe extern "C" fn read(object: *mut libc::dl_phdr_info, _: usize, sum: *mut libc::c_void) -> libc::c_int {
            // SAFETY: as in `give_back_code`; what may be executed and read may be read, and `sum` points to the caller's number.
            unsafe {
                let object = &*object;
                for s in std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) {
                    if s.p_type == libc::PT_LOAD && s.p_flags == libc::PF_X | libc::PF_R {
                        let start = (object.dlpi_addr + s.p_vaddr) as *const u8;
                        for offset in (0..s.p_memsz as usize).step_by(4096) {
                            *sum.cast::<u64>() += u64::from(start.add(offset).read_volatile());
                        }
                    }
                }
            }
            0
        }
        let mut sum = 0_u64;
        // SAFETY: the loader calls the function with loaded objects, and it adds to a number that outlives the call.
        unsafe {
            libc::dl_iterate_phdr(Some(read), (&raw mut sum).cast());
        }
        let held = resident_code();
        give_back();
        let left = resident_code();
        assert!(left < held / 2, "{held} bytes of a program of {} before, {left} after", program.len());
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
