//! One request and its answer on a netlink socket: framing, sequence numbers, acknowledgements, dumps, batches.

use std::fmt;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

use super::NetlinkError;
use crate::descriptors::open_above_stdio;

/// The kernel writes at most 32 KiB of a dump at once; the rest is spare capacity for one large link.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// The pause before a listing that was interrupted starts over; each further one is twice as long, up to the longest.
/// A table that changes in bursts has then a chance to be quiet, and one that changes all the time is read often enough
/// to meet a moment without a change.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// A socket that is connected to the kernel, so that it receives nothing from other processes.
pub(crate) struct KernelSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl KernelSocket {
    /// Opens a socket of this protocol, such as `NETLINK_ROUTE`.
    pub(crate) fn open(protocol: isize) -> Result<KernelSocket, NetlinkError> {
        let mut socket = open_above_stdio(|| Socket::new(protocol)).map_err(NetlinkError::Open)?;
        socket.bind_auto().map_err(NetlinkError::Open)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(NetlinkError::Open)?;
        // Kernels before 4.20 list whole tables, which is the same to the callers: they filter by themselves.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(KernelSocket { socket, sequence: 0, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Sends a change and waits for its acknowledgement.
    pub(crate) fn command(
        &mut self,
        request: impl NetlinkSerializable,
        flags: u16,
        what: fmt::Arguments<'_>,
    ) -> Result<(), NetlinkError> {
        self.exchange(request, NLM_F_ACK | flags, what, &mut |_| Some(())).map(|_| ())
    }

    /// Requests one object; returns the payload of the answer.
    pub(crate) fn query(
        &mut self,
        request: impl NetlinkSerializable,
        what: fmt::Arguments<'_>,
    ) -> Result<Vec<u8>, NetlinkError> {
        let mut answer = None;
        self.exchange(request, NLM_F_ACK, what, &mut |payload| {
            answer = Some(payload.to_vec());
            Some(())
        })?;
        answer.ok_or(NetlinkError::Malformed)
    }

    /// Lists a table. `parse` appends the entries of one message, or returns `None` if the message is malformed. A
    /// listing that a change of the table has interrupted starts over, after a pause, for as long as `patience`.
    pub(crate) fn dump<T>(
        &mut self,
        request: impl NetlinkSerializable + Clone,
        what: fmt::Arguments<'_>,
        patience: Duration,
        parse: fn(&[u8], &mut Vec<T>) -> Option<()>,
    ) -> Result<Vec<T>, NetlinkError> {
        until_whole(what, patience, || {
            let (list, is_whole) = self.dump_once(request.clone(), what, parse)?;
            Ok(is_whole.then_some(list))
        })
    }

    /// Lists a table once; returns its entries, and whether no change has interrupted the listing. An interrupted one may
    /// lack entries that were there all the time.
    pub(crate) fn dump_once<T>(
        &mut self,
        request: impl NetlinkSerializable,
        what: fmt::Arguments<'_>,
        parse: fn(&[u8], &mut Vec<T>) -> Option<()>,
    ) -> Result<(Vec<T>, bool), NetlinkError> {
        let mut list = Vec::new();
        let outcome = self.exchange(request, NLM_F_DUMP, what, &mut |payload| parse(payload, &mut list))?;
        Ok((list, outcome == Outcome::Complete))
    }

    /// Sends `request` and passes every message of the answer to `each`, up to the acknowledgement or the end of the
    /// dump.
    ///
    /// It always reads the whole answer, even after `each` found a malformed message: the kernel refuses a new dump on
    /// a socket while the previous one is unread.
    fn exchange(
        &mut self,
        request: impl NetlinkSerializable,
        flags: u16,
        what: fmt::Arguments<'_>,
        each: &mut dyn FnMut(&[u8]) -> Option<()>,
    ) -> Result<Outcome, NetlinkError> {
        self.send(request, flags)?;
        let mut answer = Answer { sequence: self.sequence, outcome: Outcome::Complete, malformed: false };
        let errno = loop {
            let length = self.receive()?;
            let datagram = self.buffer.get(..length).ok_or(NetlinkError::Malformed)?;
            if let Some(errno) = answer.take(datagram, each)? {
                break errno;
            }
        };
        match errno {
            0 if answer.malformed => Err(NetlinkError::Malformed),
            0 => Ok(answer.outcome),
            errno => Err(NetlinkError::Kernel { what: what.to_string(), errno }),
        }
    }

    fn send(&mut self, request: impl NetlinkSerializable, flags: u16) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.send_bytes(&bytes)
    }

    fn send_bytes(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        uninterrupted(|| self.socket.send(bytes, 0)).map(|_| ()).map_err(NetlinkError::Send)
    }

    /// Sends messages that the kernel performs together or not at all, each with its flags and its name for an error, as
    /// in "add the chain output". The first and the last are the batch's own begin and end.
    ///
    /// The kernel performs them before the send returns. It reports every message that it refuses, and the success of the
    /// last one before the end, which asks for it.
    pub(crate) fn batch<M: NetlinkSerializable>(&mut self, steps: Vec<(M, u16, String)>) -> Result<(), NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let acknowledged = steps.len().saturating_sub(2);
        let (mut bytes, mut names) = (Vec::new(), Vec::new());
        for (number, (message, flags, name)) in steps.into_iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let mut header = NetlinkHeader::default();
            header.flags = NLM_F_REQUEST | flags | if number == acknowledged { NLM_F_ACK } else { 0 };
            header.sequence_number = self.sequence;
            let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len().next_multiple_of(usize::from(NLMSG_ALIGNTO)), 0);
            message.serialize(&mut bytes[start..]);
            names.push(name);
        }
        self.send_bytes(&bytes)?;
        let mut is_done = false;
        while !is_done {
            let length = self.receive()?;
            let datagram = self.buffer.get(..length).ok_or(NetlinkError::Malformed)?;
            for frame in Frames(datagram) {
                let frame = frame?;
                let number = frame.sequence_number().wrapping_sub(first) as usize;
                // Messages that an earlier exchange left unread when it failed.
                let Some(name) = names.get(number).filter(|_| frame.message_type() == NLMSG_ERROR) else { continue };
                match status(frame.payload())? {
                    0 => is_done |= number == acknowledged,
                    errno => return Err(NetlinkError::Kernel { what: name.clone(), errno }),
                }
            }
        }
        Ok(())
    }

    /// Receives one datagram into the buffer; returns its length. A datagram larger than the buffer is malformed, since
    /// its rest is lost.
    fn receive(&mut self) -> Result<usize, NetlinkError> {
        let KernelSocket { socket, buffer, .. } = self;
        let length = uninterrupted(|| socket.recv(&mut buffer.as_mut_slice(), libc::MSG_TRUNC))
            .map_err(NetlinkError::Receive)?;
        if length == 0 || length > buffer.len() {
            return Err(NetlinkError::Malformed);
        }
        Ok(length)
    }
}

/// Repeats an attempt to list something until it returns a whole list, with growing pauses, for as long as `patience`.
pub(super) fn until_whole<T>(
    what: fmt::Arguments<'_>,
    patience: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>, NetlinkError>,
) -> Result<T, NetlinkError> {
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(list) = attempt()? {
            return Ok(list);
        }
        if Instant::now() + pause > deadline {
            return Err(NetlinkError::Changing { what: what.to_string(), patience });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl fmt::Debug for KernelSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelSocket").field("socket", &self.socket).field("sequence", &self.sequence).finish()
    }
}

/// Whether a dump is a consistent view of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Complete,
    /// The table changed during the dump (`NLM_F_DUMP_INTR`).
    Interrupted,
}

/// The state of one answer that is being read.
struct Answer {
    sequence: u32,
    outcome: Outcome,
    malformed: bool,
}

impl Answer {
    /// Processes one datagram. Returns the error number that ends the answer, 0 for success, or `None` if more
    /// datagrams follow.
    fn take(
        &mut self,
        datagram: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Option<()>,
    ) -> Result<Option<i32>, NetlinkError> {
        for frame in Frames(datagram) {
            let frame = frame?;
            // Messages that an earlier exchange left unread when it failed.
            if frame.sequence_number() != self.sequence {
                continue;
            }
            if frame.flags() & NLM_F_DUMP_INTR != 0 {
                self.outcome = Outcome::Interrupted;
            }
            match frame.message_type() {
                NLMSG_NOOP => {}
                NLMSG_OVERRUN => self.malformed = true,
                NLMSG_DONE | NLMSG_ERROR => return status(frame.payload()).map(Some),
                _ => self.malformed |= each(frame.payload()).is_none(),
            }
        }
        Ok(None)
    }
}

/// The netlink messages of one datagram. Iteration ends after the first malformed one.
struct Frames<'a>(&'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = Result<NetlinkBuffer<&'a [u8]>, NetlinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        // The check ensures that the header is whole and that its declared length is within the bytes present.
        let Ok(frame) = NetlinkBuffer::new_checked(self.0) else {
            self.0 = &[];
            return Some(Err(NetlinkError::Malformed));
        };
        let step = (frame.length() as usize).next_multiple_of(usize::from(NLMSG_ALIGNTO));
        self.0 = self.0.get(step..).unwrap_or_default();
        Some(Ok(frame))
    }
}

/// The error number that ends an exchange, positive; 0 is success. The kernel sends it negated.
fn status(payload: &[u8]) -> Result<i32, NetlinkError> {
    let code = payload.first_chunk::<4>().ok_or(NetlinkError::Malformed)?;
    Ok(i32::from_ne_bytes(*code).saturating_neg().max(0))
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_sys::protocols::NETLINK_ROUTE;

    const RTM_NEWROUTE: u16 = 24;
    const PATIENCE: Duration = Duration::from_secs(5);

    /// A message with these header fields; `declared` is its length field.
    fn frame(declared: u32, kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = declared.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    /// A message of exchange 7.
    fn of_exchange(kind: u16, flags: u16, body: [u8; 4]) -> Vec<u8> {
        let mut bytes = frame(20, kind, &body);
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&7u32.to_ne_bytes());
        bytes
    }

    fn answer() -> Answer {
        Answer { sequence: 7, outcome: Outcome::Complete, malformed: false }
    }

    #[test]
    fn several_messages_of_one_datagram_are_split_at_aligned_lengths() {
        let mut datagram = frame(18, 16, &[1, 2, 0, 0]);
        datagram.extend(frame(20, 17, &[3, 4, 5, 6]));
        let seen: Vec<_> =
            Frames(&datagram).map(|frame| frame.map(|f| (f.message_type(), f.payload().to_vec())).unwrap()).collect();
        assert_eq!(seen, [(16, vec![1, 2]), (17, vec![3, 4, 5, 6])]);
    }

    #[test]
    fn a_broken_length_ends_the_datagram_with_an_error() {
        for declared in [0, 15, 21, u32::MAX] {
            let datagram = frame(declared, 16, &[1, 2, 3, 4]);
            let seen: Vec<_> = Frames(&datagram).collect();
            assert!(matches!(seen.as_slice(), [Err(NetlinkError::Malformed)]), "length {declared}");
        }
        assert!(Frames(&[0; 7]).all(|frame| frame.is_err()));
    }

    #[test]
    fn a_status_is_the_negated_number_of_the_kernel() {
        assert_eq!(status(&0i32.to_ne_bytes()).unwrap(), 0);
        assert_eq!(status(&(-17i32).to_ne_bytes()).unwrap(), 17);
        assert_eq!(status(&i32::MIN.to_ne_bytes()).unwrap(), i32::MAX);
        assert_eq!(status(&5i32.to_ne_bytes()).unwrap(), 0);
        assert!(status(&[0, 0, 0]).is_err());
    }

    #[test]
    fn an_answer_of_several_datagrams_ends_with_its_last_message() {
        let (mut answer, mut seen) = (answer(), Vec::new());
        let mut each = |payload: &[u8]| {
            seen.push(payload.to_vec());
            Some(())
        };
        let first = [of_exchange(RTM_NEWROUTE, 0, [1; 4]), frame(20, NLMSG_ERROR, &[0xff; 4])].concat();
        assert_eq!(answer.take(&first, &mut each).unwrap(), None, "the error is of another exchange");
        let last = [of_exchange(RTM_NEWROUTE, 0, [2; 4]), of_exchange(NLMSG_DONE, 0, [0; 4])].concat();
        assert_eq!(answer.take(&last, &mut each).unwrap(), Some(0));
        assert_eq!(seen, [vec![1; 4], vec![2; 4]]);
        assert_eq!((answer.outcome, answer.malformed), (Outcome::Complete, false));
    }

    #[test]
    fn a_table_that_changed_while_it_was_listed_is_interrupted() {
        for marked in [RTM_NEWROUTE, NLMSG_DONE] {
            let flags = |kind| if kind == marked { NLM_F_DUMP_INTR } else { 0 };
            let messages = [RTM_NEWROUTE, NLMSG_DONE].map(|kind| of_exchange(kind, flags(kind), [0; 4]));
            let mut answer = answer();
            assert_eq!(answer.take(&messages.concat(), &mut |_| Some(())).unwrap(), Some(0));
            assert_eq!(answer.outcome, Outcome::Interrupted);
        }
    }

    /// More often than the eight attempts that were once the limit.
    #[test]
    fn an_interrupted_listing_is_repeated_with_growing_pauses_until_it_is_whole() {
        let mut tries = Vec::new();
        let whole = until_whole(format_args!("list addresses"), PATIENCE, || {
            tries.push(Instant::now());
            Ok((tries.len() == 20).then_some(tries.len()))
        });
        assert_eq!(whole.unwrap(), 20);
        let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (pause, least) in pauses.iter().zip([1, 2, 4, 8, 16, 32, 32, 32]) {
            assert!(*pause >= Duration::from_millis(least), "{pauses:?}");
        }
    }

    #[test]
    fn a_table_that_never_rests_is_an_error_that_says_so() {
        let (began, patience) = (Instant::now(), Duration::from_millis(200));
        let mut tries = 0;
        let error = until_whole::<()>(format_args!("list addresses"), patience, || {
            tries += 1;
            Ok(None)
        })
        .unwrap_err();
        assert!(began.elapsed() < PATIENCE && tries > 5, "{tries} tries in {:?}", began.elapsed());
        let says = "list addresses: the kernel's table changed during each of the readings of 0.2 s (NLM_F_DUMP_INTR); \
                    expected one without a change";
        assert_eq!(error.to_string(), says);
        assert_eq!(error.errno(), Some(libc::EAGAIN));
        let at_once = until_whole::<()>(format_args!("x"), Duration::ZERO, || Ok(None));
        assert!(matches!(at_once, Err(NetlinkError::Changing { .. })));
    }

    #[test]
    fn a_listing_that_fails_half_way_gives_its_error() {
        let messages =
            [of_exchange(RTM_NEWROUTE, 0, [0; 4]), of_exchange(NLMSG_DONE, 0, (-libc::ENOBUFS).to_ne_bytes())];
        assert_eq!(answer().take(&messages.concat(), &mut |_| Some(())).unwrap(), Some(libc::ENOBUFS));
    }

    #[test]
    fn messages_of_another_exchange_are_passed_over() {
        let mut socket = KernelSocket::open(NETLINK_ROUTE).unwrap();
        let links = || RouteNetlinkMessage::GetLink(Default::default());
        // An earlier exchange that ended after sending: its whole answer is still unread.
        socket.send(links(), NLM_F_ACK).unwrap();
        let counted = socket.dump(links(), format_args!("list links"), PATIENCE, |_, list| {
            list.push(());
            Some(())
        });
        assert!(!counted.unwrap().is_empty());
    }

    #[test]
    fn a_malformed_message_does_not_block_the_socket() {
        let mut socket = KernelSocket::open(NETLINK_ROUTE).unwrap();
        let links = || RouteNetlinkMessage::GetLink(Default::default());
        let what = format_args!("list links");
        assert!(matches!(socket.dump::<()>(links(), what, PATIENCE, |_, _| None), Err(NetlinkError::Malformed)));
        assert!(socket.dump::<()>(links(), what, PATIENCE, |_, _| Some(())).is_ok());
    }
}
