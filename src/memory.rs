//! How much the program has allocated at the moment: what bounds a script's memory, whose values
//! are each within limits but not their sum.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicIsize, Ordering};

use crate::sys;

/// The system's allocator, counting.
pub struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// Bytes that are allocated and not freed, in all threads; memory maps are not among them.
pub fn live() -> isize {
    LIVE.load(Ordering::Relaxed)
}

thread_local! {
    /// Bytes that are allocated but not by this thread's script.
    static OTHERS: Cell<isize> = const { Cell::new(0) };
    /// Calls of [`uncounted`] within one another.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Takes all that is allocated now for not the script's that this thread is about to run.
pub fn begin_script() {
    OTHERS.set(live());
}

/// Bytes that this thread's script holds: what was allocated since [`begin_script`], but not in
/// [`uncounted`].
pub fn of_script() -> isize {
    live() - OTHERS.get()
}

/// Does what is not the script's: what it allocates and frees is not counted as the script's.
pub fn uncounted<T>(body: impl FnOnce() -> T) -> T {
    let before = live();
    DEPTH.set(DEPTH.get() + 1);
    let done = body();
    DEPTH.set(DEPTH.get() - 1);
    // What happens within another is in its difference.
    if DEPTH.get() == 0 {
        OTHERS.set(OTHERS.get() + live() - before);
    }
    done
}

/// Something large that a script holds by its name only. Where the script lets it go, that gives
/// the script no room.
pub struct Uncounted<T>(ManuallyDrop<T>);

impl<T> Uncounted<T> {
    pub fn new(inside: T) -> Self {
        Self(ManuallyDrop::new(inside))
    }
}

impl<T> Deref for Uncounted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Uncounted<T> {
    fn drop(&mut self) {
        // SAFETY: it is dropped here and nowhere else, and not touched again.
        uncounted(|| unsafe { ManuallyDrop::drop(&mut self.0) });
    }
}

/// Bytes that were freed and that the process still holds, to be used again; 0 where the system
/// does not say.
pub fn retained() -> usize {
    sys::anonymous_bytes().map_or(0, |own| (own as isize - live()).max(0) as usize)
}

fn count(bytes: isize) {
    LIVE.fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is; counting touches no memory but one
// atomic number.
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
    use std::hint::black_box;
    use std::sync::{Mutex, PoisonError};

    /// All threads are counted, so one test at a time holds much.
    static MUCH: Mutex<()> = Mutex::new(());

    #[test]
    fn what_is_let_go_gives_a_script_no_room() {
        let _alone = MUCH.lock().unwrap_or_else(PoisonError::into_inner);
        let size = 1 << 30;
        let near = |bytes: usize| (of_script() - bytes as isize).unsigned_abs() < size / 4;
        begin_script();
        let large =
            Uncounted::new(uncounted(|| uncounted(|| black_box(Vec::<u8>::with_capacity(size)))));
        assert!(near(0) && large.capacity() == size);
        // What nobody looks at, the compiler need not allocate.
        let own: Vec<u8> = black_box(Vec::with_capacity(size));
        assert!(near(size));
        drop(large);
        assert!(near(size));
        drop(own);
        assert!(near(0));
    }

    #[test]
    fn what_is_held_is_counted() {
        // Other tests allocate meanwhile, but not so much; it is never touched.
        let _alone = MUCH.lock().unwrap_or_else(PoisonError::into_inner);
        let size = 1 << 30;
        let before = live();
        let mut held: Vec<u8> = Vec::with_capacity(size);
        assert!(live() - before > (size / 2) as isize);
        held.resize(1 << 12, 1);
        held.shrink_to_fit();
        assert!(live() - before < (size / 2) as isize);
    }
}
