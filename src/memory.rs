//! How much the program has allocated at the moment: what bounds a script's memory, whose values are each within limits but not
//! their sum.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

/// The system's allocator, counting.
pub struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// Bytes that are allocated and not freed, in all threads; memory maps are not among them.
pub fn live() -> isize {
    LIVE.load(Ordering::Relaxed)
}

/// Bytes that were freed and that the process still holds, to be used again; 0 where the system does not say.
pub fn retained() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split_whitespace().skip(1).map(|n| n.parse::<isize>().unwrap_or(0));
    let own = pages.next().unwrap_or(0) - pages.next().unwrap_or(0);
    // Linux's pages, but for few machines.
    (own * 4096 - live()).max(0) as usize
}

fn count(bytes: isize) {
    LIVE.fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is; counting touches no memory but one atomic number.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of `System`.
        let place = unsafe { System.alloc(layout) };
        if !place.is_null() {
            count(layout.size() as isize);
        }
        place
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let place = unsafe { System.alloc_zeroed(layout) };
        if !place.is_null() {
            count(layout.size() as isize);
        }
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { System.realloc(place, layout, size) };
        if !moved.is_null() {
            count(size as isize - layout.size() as isize);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted() {
        // Other tests allocate meanwhile, but not so much.
        let size = 1 << 28;
        let before = live();
        let mut held: Vec<u8> = Vec::with_capacity(size);
        assert!(live() - before > (size / 2) as isize);
        held.resize(1 << 12, 1);
        held.shrink_to_fit();
        assert!(live() - before < (size / 2) as isize);
    }
}
