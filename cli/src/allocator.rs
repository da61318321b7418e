//! The allocator of the process, tuned to give memory back.

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};
use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_int, c_long};
use std::thread::Builder;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// mimalloc. Its functions for aligned blocks are asked only for what its plain ones do not align anyway, since these take half as many instructions.
struct Allocator;

/// Whether a block has this alignment in any case: blocks are aligned to words, and to 16 bytes where they are not smaller than that.
const fn is_aligned_anyway(size: usize, align: usize) -> bool {
    align <= size_of::<usize>() || (align == 16 && size >= 16)
}

// SAFETY: each function gives what mimalloc's manual says of the C function that it calls: a block of this size and alignment, or null. Blocks of both
// kinds of functions are freed and changed by either.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size may be asked for, and the alignment of a layout is a power of two.
        let block =
            unsafe { if is_aligned_anyway(size, align) { mi_malloc(size) } else { mi_malloc_aligned(size, align) } };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        let block =
            unsafe { if is_aligned_anyway(size, align) { mi_zalloc(size) } else { mi_zalloc_aligned(size, align) } };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: who calls this gives back a block of this allocator, which nobody uses any more.
        unsafe { mi_free(block.cast()) };
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (block, align) = (block.cast(), layout.align());
        // SAFETY: as above, and the block is one of this allocator.
        let block = unsafe {
            if is_aligned_anyway(size, align) {
                mi_realloc(block, size)
            } else {
                mi_realloc_aligned(block, size, align)
            }
        };
        block.cast()
    }
}

/// `mi_option_purge_delay` in `mi_option_e` of mimalloc 3: after how many milliseconds freed memory may go back to the system.
const PURGE_DELAY: c_int = 15;
/// Long enough that what a thread frees and takes again goes on being its own: given back at once it is zeroed anew at each turn, page by page.
const DELAY_MS: c_long = 500;
/// How often what is free goes back.
const ROUND: Duration = Duration::from_millis(500);
const STACK_BYTES: usize = 64 << 10;

/// Freed memory goes back to the system soon, also where the thread that freed it does not allocate any more: a worker that dropped a table may be idle then.
///
/// Measured with `pgbench -i -s 10`, whose tables move when they get their keys: 87 to 102 instead of 146 resident bytes per row and copy, together with the feature
/// `no_thp` (huge pages hold on to what is free inside them).
pub fn give_back() -> std::io::Result<()> {
    // SAFETY: the option is read by later purges only, and no other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, DELAY_MS) };
    let rounds = || {
        loop {
            std::thread::sleep(ROUND);
            // SAFETY: any thread may call it; what others have freed is shared by all.
            unsafe { libmimalloc_sys::mi_collect(false) };
        }
    };
    Builder::new().name("memory".into()).stack_size(STACK_BYTES).spawn(rounds).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_the_alignment_that_was_asked_for() {
        for size in (1..200).chain([1_000, 4_096, 5_000, 70_000, 3 << 20]) {
            for align in [1, 2, 4, 8, 16, 32, 64, 4_096] {
                let layout = Layout::from_size_align(size, align).unwrap();
                let is_aligned = |block: *mut u8| !block.is_null() && block.addr().is_multiple_of(align);
                // SAFETY: each block is used as long as it is one, within its size, and given back once with its layout.
                unsafe {
                    let (one, zeroed) = (ALLOCATOR.alloc(layout), ALLOCATOR.alloc_zeroed(layout));
                    assert!(is_aligned(one) && is_aligned(zeroed), "{layout:?}");
                    assert!((0..size).all(|at| zeroed.add(at).read() == 0));
                    one.write_bytes(7, size);
                    let longer = ALLOCATOR.realloc(one, layout, size + 9);
                    assert!(is_aligned(longer) && (0..size).all(|at| longer.add(at).read() == 7), "{layout:?}");
                    ALLOCATOR.dealloc(longer, Layout::from_size_align(size + 9, align).unwrap());
                    ALLOCATOR.dealloc(zeroed, layout);
                }
            }
        }
    }
}
