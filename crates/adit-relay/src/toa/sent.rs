//! Memory that the sending program shares: the registrations whose option went out last, by their numbers. To ask it costs no
//! system call.
//!
//! Each number has one place, which those that are [`PLACES`] apart take from each other. So it never says of one that went out
//! for certain that it did not; the map of registrations tells that.

#![expect(unsafe_code, reason = "a map of the kernel's is mapped into memory")]

use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// As in the program.
pub(super) const PLACES: usize = 16_384;
const BYTES: usize = PLACES * size_of::<AtomicU64>();

/// The memory, as long as this lives.
#[derive(Debug)]
pub(super) struct Sent {
    places: NonNull<[AtomicU64; PLACES]>,
}

// SAFETY: it is memory that any thread may read, and that goes with this alone.
unsafe impl Send for Sent {}
// SAFETY: what is in it is read by atomic loads alone.
unsafe impl Sync for Sent {}

impl Sent {
    /// Maps an array of [`PLACES`] numbers of 64 bits.
    ///
    /// # Errors
    /// What the kernel answers: `EINVAL` where the array is smaller, or was not made to be mapped.
    pub(super) fn of(array: impl AsFd) -> Result<Self, Errno> {
        // SAFETY: the kernel chooses an address where nothing is yet.
        let address = unsafe { mmap(null_mut(), BYTES, ProtFlags::READ, MapFlags::SHARED, array, 0)? };
        NonNull::new(address.cast())
            .map(|places| Self { places })
            .ok_or(Errno::FAULT)
    }

    /// Whether it is known that this one went out. If not it may still have, a while ago.
    pub(super) fn has(&self, number: NonZeroU64) -> bool {
        // SAFETY: it is mapped until `self` is dropped, at the beginning of a page, and as long as the array; it is only ever
        // written by the program, one number at a time.
        let places = unsafe { self.places.as_ref() };
        places[(number.get() % PLACES as u64) as usize].load(Relaxed) == number.get()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        // SAFETY: this is what `of` has mapped, and nobody has a reference into it any more.
        let unmapped = unsafe { munmap(self.places.as_ptr().cast(), BYTES) };
        debug_assert!(unmapped.is_ok(), "what was mapped can be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_place_is_the_last_one_s() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES as u64).unwrap();
        let sent = Sent::of(&file).unwrap();
        let [first, second] = [7, 7 + PLACES as u64].map(|n| NonZeroU64::new(n).unwrap());
        assert!(!sent.has(first) && !sent.has(second));
        for (number, other) in [(first, second), (second, first)] {
            file.write_all_at(&number.get().to_ne_bytes(), 7 * 8).unwrap();
            assert!(sent.has(number) && !sent.has(other));
        }
        let last = NonZeroU64::new(u64::MAX).unwrap();
        file.write_all_at(&last.get().to_ne_bytes(), BYTES as u64 - 8)
            .unwrap();
        assert!(sent.has(last));
    }
}
