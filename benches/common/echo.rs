//! Datagrams that the server's end of a tunnel sends back.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Ends;
use super::failure::Failure;
use super::host::Host;
use super::running::WAIT_TIMEOUT;

const PORT: u16 = 5300;

/// Waits until the server's end sends a datagram back.
pub(crate) fn wait_for(hosts: Ends<&Host>, gateway: Ipv4Addr) -> Result<(), Failure> {
    const ATTEMPT: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + WAIT_TIMEOUT;
    with(hosts, gateway, ATTEMPT, |socket| {
        // An answer to an earlier datagram counts too.
        while send_and_receive(socket, 0).is_err() {
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!("no packet passes to {gateway} and back in {WAIT_TIMEOUT:?}")));
            }
            // A send error occurs at once.
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    })
}

/// Calls `job` with a socket on the client whose datagrams the server echoes, and whose reads wait for this time.
pub(crate) fn with<T>(
    hosts: Ends<&Host>,
    gateway: Ipv4Addr,
    wait: Duration,
    job: impl FnOnce(&UdpSocket) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let sockets = || -> io::Result<_> {
        let echo = hosts.server.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)))?;
        echo.set_read_timeout(Some(Duration::from_millis(50)))?;
        let socket = hosts.client.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((gateway, PORT)).map(|()| socket)
        })?;
        socket.set_read_timeout(Some(wait))?;
        Ok((echo, socket))
    };
    let (echo, socket) = sockets().map_err(Failure::during(format!("a socket for {gateway}")))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 1500];
            while !done.load(Ordering::Relaxed) {
                if let Ok((length, from)) = echo.recv_from(&mut bytes) {
                    // Lost while there is no route back.
                    let _ = echo.send_to(&bytes[..length], from);
                }
            }
        });
        let result = job(&socket);
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// Sends a number, and returns the one that comes back.
pub(crate) fn send_and_receive(socket: &UdpSocket, number: u64) -> io::Result<u64> {
    socket.send(&number.to_le_bytes())?;
    let mut bytes = [0; 8];
    socket.recv(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
