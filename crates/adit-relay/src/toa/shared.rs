//! Memory that the sending program shares, so that neither to register a socket nor to ask what went out costs a system call.
//!
//! [`Orders`]: registrations for sockets that are just going to be connected. [`Sent`]: the registrations whose option went out
//! last, by their numbers. Both have one place for a number or a socket, which others want too: then the map of registrations
//! itself is to be used, by a system call.

#![expect(unsafe_code, reason = "maps of the kernel's are mapped into memory")]

use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// As in the program.
pub(super) const PLACES: usize = 16_384;
const ORDERS: usize = 256;
/// What the program puts instead of a cookie.
const TAKEN: u64 = u64::MAX;
/// A registration as words: its number, the option, flags.
const WORDS: usize = 3;

/// As `struct order` of the program.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Order {
    cookie: AtomicU64,
    registration: [AtomicU64; WORDS],
}

/// A map that is an array, as memory, as long as this lives. `T` is made of numbers of 64 bits that are atomic.
#[derive(Debug)]
struct Shared<T> {
    at: NonNull<T>,
}

// SAFETY: it is memory that any thread may use, and that goes with this alone.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: what is in it is used by atomic loads and stores alone.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn of(array: impl AsFd, protection: ProtFlags) -> Result<Self, Errno> {
        // SAFETY: the kernel chooses an address where nothing is yet.
        let address = unsafe { mmap(null_mut(), size_of::<T>(), protection, MapFlags::SHARED, array, 0)? };
        NonNull::new(address.cast())
            .map(|at| Self { at })
            .ok_or(Errno::FAULT)
    }

    fn get(&self) -> &T {
        // SAFETY: it is mapped until `self` is dropped, at the beginning of a page, and as long as the array; both sides read and
        // write one number at a time.
        unsafe { self.at.as_ref() }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: this is what `of` has mapped, and nobody has a reference into it any more.
        let unmapped = unsafe { munmap(self.at.as_ptr().cast(), size_of::<T>()) };
        debug_assert!(unmapped.is_ok(), "what was mapped can be unmapped");
    }
}

/// What went out last.
#[derive(Debug)]
pub(super) struct Sent(Shared<[AtomicU64; PLACES]>);

impl Sent {
    /// Maps an array of [`PLACES`] numbers of 64 bits.
    ///
    /// # Errors
    /// What the kernel answers: `EINVAL` where the array is smaller, or was not made to be mapped.
    pub(super) fn of(array: impl AsFd) -> Result<Self, Errno> {
        Shared::of(array, ProtFlags::READ).map(Self)
    }

    /// Whether it is known that this one went out. If not it may still have, a while ago.
    pub(super) fn has(&self, number: NonZeroU64) -> bool {
        self.0.get()[(number.get() % PLACES as u64) as usize].load(Relaxed) == number.get()
    }
}

/// What is to be registered.
#[derive(Debug)]
pub(super) struct Orders(Shared<[Order; ORDERS]>);

impl Orders {
    /// Maps an array of [`ORDERS`] orders.
    ///
    /// # Errors
    /// As [`Sent::of`].
    pub(super) fn of(array: impl AsFd) -> Result<Self, Errno> {
        Shared::of(array, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    /// Has the program register the socket with this cookie when it is connected; `None` where another socket that is being
    /// connected has its place.
    pub(super) fn put(&self, cookie: u64, registration: [u64; WORDS]) -> Option<Placed<'_>> {
        let order = &self.0.get()[(cookie % ORDERS as u64) as usize];
        // The program looks at it on the thread that connects the socket, so what is written after the cookie is there by then.
        order.cookie.compare_exchange(0, cookie, Acquire, Relaxed).ok()?;
        for (place, word) in order.registration.iter().zip(registration) {
            place.store(word, Relaxed);
        }
        Some(Placed(order))
    }
}

/// An order. Dropped, it makes room for others.
#[derive(Debug)]
pub(super) struct Placed<'a>(&'a Order);

impl Placed<'_> {
    /// Whether the program has registered the socket. To be asked when it is connected, or being connected.
    pub(super) fn is_taken(&self) -> bool {
        self.0.cookie.load(Relaxed) == TAKEN
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        self.0.cookie.store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn memory(bytes: usize) -> std::fs::File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes as u64).unwrap();
        file
    }

    #[test]
    fn a_place_is_the_last_one_s() {
        let bytes = PLACES * 8;
        let file = memory(bytes);
        let sent = Sent::of(&file).unwrap();
        let [first, second] = [7, 7 + PLACES as u64].map(|n| NonZeroU64::new(n).unwrap());
        assert!(!sent.has(first) && !sent.has(second));
        for (number, other) in [(first, second), (second, first)] {
            file.write_all_at(&number.get().to_ne_bytes(), 7 * 8).unwrap();
            assert!(sent.has(number) && !sent.has(other));
        }
        let last = NonZeroU64::new(u64::MAX).unwrap();
        file.write_all_at(&last.get().to_ne_bytes(), bytes as u64 - 8)
            .unwrap();
        assert!(sent.has(last));
    }

    #[test]
    fn an_order_has_its_place_until_it_is_dropped() {
        let file = memory(size_of::<[Order; ORDERS]>());
        let orders = Orders::of(&file).unwrap();
        let (cookie, at) = (3 + ORDERS as u64, 3 * size_of::<Order>() as u64);
        let order = orders.put(cookie, [1, 2, 3]).unwrap();
        assert!(orders.put(3, [0; 3]).is_none());
        assert!(orders.put(4, [0; 3]).is_some());
        let mut there = [0; 32];
        file.read_exact_at(&mut there, at).unwrap();
        let words: Vec<u8> = [cookie, 1, 2, 3]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        assert_eq!(there, *words);
        assert!(!order.is_taken());
        file.write_all_at(&TAKEN.to_ne_bytes(), at).unwrap();
        assert!(order.is_taken() && orders.put(3, [0; 3]).is_none());
        drop(order);
        assert!(orders.put(3, [0; 3]).is_some_and(|order| !order.is_taken()));
    }
}
