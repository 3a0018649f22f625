//! Reading and writing a socket until a deadline: a peer that sends or receives a byte now and then cannot extend it.

use host::patience::Patience;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A blocking stream socket.
pub(crate) trait Connection: Send + Sync + 'static {
    /// Ends the peer's sending: a thread that waits for more of it returns at once; replies can still be sent.
    fn hang_up(&self);
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()>;
    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn hang_up(&self) {
        // An error means that the connection has already gone.
        let _ = self.shutdown(Shutdown::Read);
    }
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }
    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(timeout))
    }
}

impl Connection for UnixStream {
    fn hang_up(&self) {
        // As above.
        let _ = self.shutdown(Shutdown::Read);
    }
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }
    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(timeout))
    }
}

/// A connection that fails with `TimedOut` once its deadline has passed. A pause of this process moves the deadline: the
/// peer's bytes may have waited meanwhile.
pub(crate) struct Timed<'a, C> {
    connection: &'a C,
    patience: Patience,
}

impl<'a, C: Connection> Timed<'a, C> {
    pub(crate) fn new(connection: &'a C, time: Duration) -> Self {
        Self { connection, patience: Patience::new(time) }
    }

    pub(crate) fn until(connection: &'a C, deadline: Instant) -> Self {
        Self::new(connection, deadline.saturating_duration_since(Instant::now()))
    }

    /// Works in steps until something has happened or the deadline has passed.
    fn in_steps(&mut self, mut step: impl FnMut(&'a C, Duration) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            let time = self.patience.step().ok_or(ErrorKind::TimedOut)?;
            match step(self.connection, time) {
                // A socket's own timeout appears as EAGAIN (socket(7), SO_RCVTIMEO).
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                result => return result,
            }
        }
    }
}

impl<'a, C: Connection> Read for Timed<'a, C>
where
    &'a C: Read,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_steps(|mut connection, time| {
            connection.set_read_timeout(time)?;
            connection.read(buffer)
        })
    }
}

impl<'a, C: Connection> Write for Timed<'a, C>
where
    &'a C: Write,
{
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.in_steps(|mut connection, time| {
            connection.set_write_timeout(time)?;
            connection.write(data)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_byte_now_and_then_does_not_prolong_it() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let dripper = std::thread::spawn(move || {
            while (&theirs).write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let start = Instant::now();
        let mut all = Vec::new();
        let error = Timed::new(&ours, Duration::from_millis(200)).read_to_end(&mut all).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(200) && !all.is_empty());
        drop(ours);
        dripper.join().unwrap();
    }

    #[test]
    fn hanging_up_ends_a_read() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        ours.hang_up();
        assert_eq!(Timed::new(&ours, Duration::from_secs(60)).read(&mut [0]).unwrap(), 0);
    }
}
