//! An allocator for a program that lives some milliseconds.
//!
//! musl's gives memory back to the kernel and asks for it again all the time: about 120 system calls in one `run`. This
//! one cuts small blocks from an arena in the binary's own zeroed memory and keeps freed ones in lists by size, so that
//! a long-lived `run` or `events` does not grow; what is large, or comes when the arena is used up, goes to musl.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// Pages of it that are never touched cost nothing.
const ARENA: usize = 1 << 20;
/// Classes are powers of two from 16 bytes to 16 KiB.
const SMALLEST: u32 = 4;
const CLASSES: usize = 11;

#[repr(align(16))]
struct Arena(UnsafeCell<[u8; ARENA]>);

struct State {
    used: usize,
    free: [*mut u8; CLASSES],
}

pub struct Allocator {
    busy: AtomicBool,
    state: UnsafeCell<State>,
    arena: Arena,
}

// SAFETY: `state` and `arena` are touched only between taking `busy` and giving it back.
unsafe impl Sync for Allocator {}

impl Default for Allocator {
    fn default() -> Self {
        Allocator::new()
    }
}

impl Allocator {
    pub const fn new() -> Allocator {
        Allocator {
            busy: AtomicBool::new(false),
            state: UnsafeCell::new(State { used: 0, free: [null_mut(); CLASSES] }),
            arena: Arena(UnsafeCell::new([0; ARENA])),
        }
    }

    /// The class whose blocks hold `layout`, None for what is too large or too aligned.
    fn class(layout: Layout) -> Option<usize> {
        if layout.align() > 16 {
            return None;
        }
        let bits = layout.size().max(1 << SMALLEST).next_power_of_two().trailing_zeros();
        let class = (bits - SMALLEST) as usize;
        (class < CLASSES).then_some(class)
    }

    fn owns(&self, ptr: *mut u8) -> bool {
        let start = self.arena.0.get() as usize;
        (start..start + ARENA).contains(&(ptr as usize))
    }

    /// Run `f` with the state to ourselves. dhow has one thread, so nobody ever waits here.
    fn locked<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        while self.busy.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: `busy` is ours until the store below, and `f` does not allocate.
        let out = f(unsafe { &mut *self.state.get() });
        self.busy.store(false, Ordering::Release);
        out
    }

    fn take(&self, class: usize) -> Option<*mut u8> {
        let size = 1usize << (class as u32 + SMALLEST);
        self.locked(|state| {
            let first = state.free[class];
            if !first.is_null() {
                // SAFETY: a free block begins with the pointer to the next one, written by `give`.
                state.free[class] = unsafe { first.cast::<*mut u8>().read() };
                return Some(first);
            }
            if state.used + size > ARENA {
                return None;
            }
            // SAFETY: `used + size` is within the arena. Sizes are multiples of 16, so blocks stay aligned.
            let block = unsafe { self.arena.0.get().cast::<u8>().add(state.used) };
            state.used += size;
            Some(block)
        })
    }

    fn give(&self, block: *mut u8, class: usize) {
        self.locked(|state| {
            // SAFETY: the block is of the arena, at least 16 bytes, aligned, and nobody's any more.
            unsafe { block.cast::<*mut u8>().write(state.free[class]) };
            state.free[class] = block;
        });
    }
}

// SAFETY: blocks are disjoint, large enough for their class and aligned to 16; each goes back to where it came from.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Allocator::class(layout).and_then(|class| self.take(class)) {
            Some(block) => block,
            // SAFETY: the caller's contract is the same.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        match Allocator::class(layout) {
            Some(class) if self.owns(ptr) => self.give(ptr, class),
            // SAFETY: not of the arena, so it came from System.
            _ => unsafe { System.dealloc(ptr, layout) },
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller gives a valid size for this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if self.owns(ptr) && Allocator::class(layout).is_some() && Allocator::class(layout) == Allocator::class(new) {
            return ptr;
        }
        if !self.owns(ptr) && Allocator::class(new).is_none() {
            // SAFETY: not of the arena, so it came from System.
            return unsafe { System.realloc(ptr, layout, new_size) };
        }
        // SAFETY: a new block, then a copy of what both hold, then the old one goes.
        unsafe {
            let fresh = self.alloc(new);
            if !fresh.is_null() {
                std::ptr::copy_nonoverlapping(ptr, fresh, layout.size().min(new_size));
                self.dealloc(ptr, layout);
            }
            fresh
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_reused_and_do_not_overlap() {
        static A: Allocator = Allocator::new();
        let a = &A;
        let layout = Layout::from_size_align(40, 8).unwrap();
        // SAFETY: the layouts are valid, each pointer is used within its size and freed once.
        unsafe {
            let (one, two) = (a.alloc(layout), a.alloc(layout));
            assert!((one as usize).is_multiple_of(16) && (two as usize).abs_diff(one as usize) >= 64);
            a.dealloc(one, layout);
            assert_eq!(a.alloc(layout), one);
            one.write_bytes(7, 40);
            let grown = a.realloc(one, layout, 100_000);
            assert!(!a.owns(grown) && *grown.add(39) == 7);
            a.dealloc(grown, Layout::from_size_align(100_000, 8).unwrap());
            a.dealloc(two, layout);
        }
    }

    #[test]
    fn a_full_arena_falls_back() {
        static A: Allocator = Allocator::new();
        let a = &A;
        let layout = Layout::from_size_align(16 << 10, 16).unwrap();
        // SAFETY: valid layouts, each freed once.
        unsafe {
            let blocks: Vec<_> = (0..100).map(|_| a.alloc(layout)).collect();
            assert!(blocks.iter().any(|b| !a.owns(*b)) && blocks.iter().all(|b| !b.is_null()));
            blocks.into_iter().for_each(|b| a.dealloc(b, layout));
        }
    }
}
