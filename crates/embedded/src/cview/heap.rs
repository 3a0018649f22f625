//! The C library's heap.

/// Gives memory that nothing uses back to the system. It takes milliseconds, in which other threads may wait for
/// memory. The GNU C library alone keeps so much that it is worth it; with another one nothing happens.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes any number and its own locks, on any thread; it changes no memory that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
