//! Leaves nothing behind in memory that is no longer used: the heap is overwritten as it is freed, stacks and packet
//! buffers when a thread rests.

#![expect(unsafe_code, reason = "an allocator is unsafe by its nature")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::HashMap,
    hash::Hash,
    hint::black_box,
    mem, ptr,
};

/// How far down a stack the handling of a message or a batch can have reached, with room to spare.
const STACK_LEN: usize = 128 << 10;

/// The system's allocator, which overwrites all that is freed.
///
/// Nothing on a packet's way is freed, so a packet pays nothing for it. It wipes what no type in this program can:
/// keys in boringtun's and ring's structures, packets that waited in them.
pub struct WipingAllocator;

// SAFETY: memory comes from the system's allocator and goes back to it, with the same layout.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to this function's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to this function's own contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has this size, and nobody uses it any more.
        unsafe { ptr::write_bytes(block, 0, layout.size()) };
        // Without a reader the compiler would leave the zeros out.
        black_box(block);
        // SAFETY: the caller keeps to this function's own contract.
        unsafe { System.dealloc(block, layout) }
    }

    // `realloc` is the provided one: a new block, a copy, and the old block freed as above.
}

/// Overwrites what an option that is none was before: taking a value leaves its bytes behind.
pub fn wipe_none<T: Copy>(option: &mut Option<T>) {
    if option.is_none() {
        // SAFETY: the place is this function's own, and a whole option is written to it before it is read again.
        unsafe { ptr::write_bytes(option, 0, 1) };
        black_box(&raw mut *option);
        // SAFETY: the place is valid for writes; what is overwritten is plain data.
        unsafe { ptr::write(option, None) };
    }
}

/// Moves what is left in `map` to new memory, so that nothing of what was removed stays in the old.
pub fn rebuild<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    *map = mem::take(map).into_iter().collect();
}

/// Overwrites what earlier calls left on the calling thread's stack.
///
/// Also to be called before a peer's keys change: what is made on the stack is copied to the heap together with the
/// unused bytes between its fields, which are what an earlier call for another device left there, and stay with the peer.
#[inline(never)]
pub fn wipe_stack() {
    black_box(&mut [0_u8; STACK_LEN]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_memory_is_overwritten() {
        let layout = Layout::from_size_align(4096, 64).expect("a layout");
        // SAFETY: the block is used as long as it is allocated, except for one look at what freeing left of it,
        // at an offset where the allocator keeps nothing of its own.
        let left = unsafe {
            let block = WipingAllocator.alloc(layout);
            ptr::write_bytes(block, 0x5a, layout.size());
            WipingAllocator.dealloc(block, layout);
            ptr::read_volatile(block.add(2048).cast::<[u8; 64]>())
        };
        assert_eq!(left, [0; 64]);
    }

    #[test]
    fn grown_memory_keeps_its_content() {
        let layout = Layout::from_size_align(64, 8).expect("a layout");
        // SAFETY: each block is used as long as it is allocated.
        let kept = unsafe {
            let block = WipingAllocator.alloc(layout);
            ptr::write_bytes(block, 0x5a, layout.size());
            let grown = WipingAllocator.realloc(block, layout, 4096);
            let kept = ptr::read(grown.cast::<[u8; 64]>());
            WipingAllocator.dealloc(grown, Layout::from_size_align_unchecked(4096, 8));
            kept
        };
        assert_eq!(kept, [0x5a; 64]);
    }
}
